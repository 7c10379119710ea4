package controller

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/names"
	"thole.dev/kubernetes/rank"
)

// ended makes a pod whose container ended at a second, with what thole-rank had noted.
func ended(number uint32, second int64, code int32, facts *rank.Facts) view {
	message := ""
	if facts != nil {
		text, _ := json.Marshal(facts)
		message = string(text)
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", number), Labels: map[string]string{names.Attempt: "1"}}}
	pod.Spec.NodeName, pod.Status.Phase = "n", v1.PodFailed
	if code == 0 {
		pod.Status.Phase = v1.PodSucceeded
	}
	pod.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "main", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
		ExitCode: code, FinishedAt: metav1.NewTime(time.Unix(second, 0)), Message: message}}}}
	return viewOf(pod, number, false)
}

func at(second int64, nano int64, change func(*rank.Facts)) *rank.Facts {
	f := &rank.Facts{At: second*1e9 + nano}
	if change != nil {
		change(f)
	}
	return f
}

func TestBlame(t *testing.T) {
	lostPeer := func(f *rank.Facts) {
		f.Code, f.Committed = 1, 40
		f.Failure = &rank.Failure{Type: "RuntimeError", Message: "connection closed by peer", Place: "train.py:30"}
	}
	signal := func(f *rank.Facts) { f.Code, f.Signal = 137, 9 }
	stopped := func(f *rank.Facts) { f.Code, f.Stopped = 143, true }
	quiet := func(f *rank.Facts) { f.Stopped, f.QuietMs = true, 9000 }
	cases := []struct {
		what  string
		views []view
		kind  string
		rank  uint32
	}{
		{"a rank killed, its peers lose it in the same second", []view{ended(0, 10, 1, at(10, 800, lostPeer)), ended(2, 10, 137, at(10, 500, signal))}, kindSignal, 2},
		{"a whole container killed: it could say nothing", []view{ended(0, 10, 1, at(10, 800, lostPeer)), ended(1, 10, 137, nil)}, kindSignal, 1},
		{"the same, and the kubelet tells of the peer a second earlier", []view{ended(0, 9, 1, at(9, 1, lostPeer)), ended(1, 10, 137, nil)}, kindSignal, 1},
		{"a framework that aborts when it loses a peer", []view{ended(0, 9, 134, at(9, 999, func(f *rank.Facts) { f.Code, f.Signal = 134, 6 })),
			ended(3, 10, 137, at(10, 1, signal))}, kindSignal, 3},
		{"exits in two seconds", []view{ended(1, 10, 1, at(10, 5, lostPeer)), ended(2, 9, 3, at(9, 7, nil))}, kindExit, 2},
		{"a stopped rank, and a peer that was found waiting for it", []view{ended(0, 10, 124, at(10, 0, func(f *rank.Facts) { f.Hang = "no train step for 10s" })),
			ended(3, 11, 137, at(10, 900, quiet))}, kindHang, 3},
		{"those that were asked to end are not the cause", []view{ended(0, 10, 143, at(10, 1, stopped)), ended(1, 10, 1, at(10, 900, lostPeer))}, kindExit, 1},
		{"a node lost, and the peers that miss it", []view{ended(0, 10, 1, at(10, 0, lostPeer)), gone(3)}, kindNode, 3},
		{"an init container that was killed", []view{notBegun(2)}, kindStart, 2},
		{"not begun", []view{ended(0, 10, 127, at(10, 0, func(f *rank.Facts) { f.NotBegun = "the command x is not in the image" }))}, kindStart, 0},
	}
	for _, c := range cases {
		got := blame(&api.Ending{}, c.views)
		if got.Kind != c.kind || got.Rank != c.rank {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
	fmt.Printf("%d of %d incidents are blamed on the right rank\n", len(cases), len(cases))
	if got := blame(&api.Ending{}, cases[0].views); got.Step != 40 {
		t.Errorf("the newest step that any rank knew: %d", got.Step)
	}
	deleted := blame(&api.Ending{Kind: kindSignal, Member: "p1", Message: "p1 was deleted"}, []view{ended(0, 9, 75, at(9, 0, nil)), ended(1, 10, 75, at(10, 0, nil))})
	if deleted.Rank != 1 || deleted.Kind != kindSignal || deleted.Code != 15 {
		t.Errorf("%+v", deleted)
	}
}

// gone is a pod whose node does not answer.
func gone(number uint32) view {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", number), Labels: map[string]string{names.Attempt: "1"}}}
	pod.Spec.NodeName, pod.Status.Phase = "n", v1.PodRunning
	return viewOf(pod, number, true)
}

// notBegun is a pod whose init container has failed.
func notBegun(number uint32) view {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", number), Labels: map[string]string{names.Attempt: "1"}}}
	pod.Spec.NodeName, pod.Status.Phase = "n", v1.PodFailed
	pod.Status.InitContainerStatuses = []v1.ContainerStatus{{Name: "thole", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}}}}
	return viewOf(pod, number, false)
}

func TestTrouble(t *testing.T) {
	good := ended(0, 10, 0, nil)
	if trouble([]view{good}) != nil {
		t.Error("a rank that is done is no trouble")
	}
	if e := trouble([]view{good, ended(1, 10, 1, nil)}); e == nil || e.Member != "" {
		t.Errorf("%+v", e)
	}
	lost := good
	lost.lost = true
	if e := trouble([]view{lost}); e == nil || e.Kind != kindNode {
		t.Errorf("%+v", e)
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{"0s": 0, "500ms": 500 * time.Millisecond, "90m": 90 * time.Minute, "7d": 168 * time.Hour, "365d": 8760 * time.Hour} {
		var d duration
		if err := json.Unmarshal([]byte(`"`+text+`"`), &d); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", text, time.Duration(d), err)
		}
	}
}

func TestWhatHasNoEffectIsSaid(t *testing.T) {
	j := &job{}
	if got := j.accepted(); got != "the job file is good" {
		t.Error(got)
	}
	j.Spec.Queue, j.Spec.Priority = "q", 7
	if got := j.accepted(); got != "the job file is good; no effect on Kubernetes: spec.priority, spec.queue" {
		t.Error(got)
	}
}
