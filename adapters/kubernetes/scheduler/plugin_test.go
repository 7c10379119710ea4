package scheduler

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
)

// plugin is one profile, thole-scheduler, over a node with two GPUs.
func plugin(t *testing.T) *Plugin {
	t.Helper()
	b := bookOf(t, time.Minute)
	shared.Lock()
	shared.profiles = map[string]bool{"thole-scheduler": true}
	shared.Unlock()
	return &Plugin{book: b, groups: b.groups}
}

func ours(group string, number int) *v1.Pod {
	p := member(group, number)
	p.Spec.SchedulerName = "thole-scheduler"
	return p
}

// TestWhatWakesAPodThatWaits: a hint too few strands it for ever, one too many costs a cycle of every pod that waits.
func TestWhatWakesAPodThatWaits(t *testing.T) {
	p := plugin(t)
	waiting := ours("g", 0)
	bound := ours("other", 0)
	bound.Spec.NodeName = "a"
	for _, c := range []struct {
		what          string
		before, after any
		want          fwk.QueueingHint
	}{
		{"a sibling comes", nil, ours("g", 1), fwk.Queue},
		{"a stranger comes that waits, too", nil, ours("other", 1), fwk.QueueSkip},
		{"a stranger that waited goes", ours("other", 1), nil, fwk.QueueSkip},
		{"a pod on a node goes", bound, nil, fwk.Queue},
		{"a pod on a node shrinks", bound, bound, fwk.Queue},
	} {
		if got, err := p.whenAPod(klog.Background(), waiting, c.before, c.after); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.what, got, err)
		}
	}
	node := p.book.nodes["a"].object.DeepCopy()
	node.Name = "b"
	if got, err := p.whenANode(klog.Background(), waiting, nil, node); err != nil || got != fwk.Queue || p.book.nodes["b"] == nil {
		t.Error("a node that comes is not in the book before the pod is tried again", got, err)
	}
	events, err := p.EventsToRegister(t.Context())
	if err != nil || len(events) < 2 {
		t.Error(events, err)
	}
	for _, e := range events {
		if e.Event.Resource != fwk.Pod && e.Event.Resource != fwk.Node {
			t.Error("an event of what is not served", e.Event)
		}
	}
}

func TestAMemberHasNoSignature(t *testing.T) {
	p := plugin(t)
	if _, status := p.SignPod(t.Context(), ours("g", 0)); status.Code() != fwk.Unschedulable {
		t.Error("the result for one member would be used for another", status)
	}
	foreign := ours("g", 0)
	foreign.Spec.SchedulerName = "default-scheduler"
	if _, status := p.SignPod(t.Context(), foreign); !status.IsSuccess() {
		t.Error("pods that are none of ours are not batched", status)
	}
}
