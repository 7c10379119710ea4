package scheduler

import (
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"thole.dev/kubernetes/names"
)

// plugin is one profile, thole-scheduler, over a node with two GPUs.
func plugin(t *testing.T) *Plugin {
	t.Helper()
	b := bookOf(t, time.Minute)
	shared.Lock()
	shared.profiles = map[string]bool{"thole-scheduler": true}
	shared.Unlock()
	return &Plugin{handle: &host{waiting: map[types.UID]*waitingPod{}}, book: b, groups: b.groups}
}

// host is what this plugin uses of a framework, with pods that wait in Permit.
type host struct {
	fwk.Handle
	nodes   fwk.SharedLister
	waiting map[types.UID]*waitingPod
}

func (h *host) SnapshotSharedLister() fwk.SharedLister     { return h.nodes }
func (h *host) Activate(klog.Logger, map[string]*v1.Pod)   {}
func (h *host) GetPodInPreBind(types.UID) fwk.PodInPreBind { return nil }
func (h *host) GetWaitingPod(uid types.UID) fwk.WaitingPod {
	if w := h.waiting[uid]; w != nil {
		return w
	}
	return nil
}

type waitingPod struct {
	fwk.WaitingPod
	rejected int
}

func (w *waitingPod) Reject(string, string) bool {
	w.rejected++
	return true
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

// TestASiblingThatWaitsIsReleasedAtOnce: the first of two waits in Permit when the second does not get through.
func TestASiblingThatWaitsIsReleasedAtOnce(t *testing.T) {
	for what, fail := range map[string]func(p *Plugin, second *v1.Pod){
		"a plugin after this one does not reserve": func(p *Plugin, second *v1.Pod) { p.Unreserve(t.Context(), framework.NewCycleState(), second, "a") },
		"another plugin refuses the planned node": func(p *Plugin, second *v1.Pod) {
			if _, status := p.PostFilter(t.Context(), nil, second, nil); status.Code() != fwk.UnschedulableAndUnresolvable {
				t.Error(status)
			}
		},
	} {
		p := plugin(t)
		h := p.handle.(*host)
		h.nodes = cache.NewSnapshot(nil, []*v1.Node{p.book.nodes["a"].object})
		pods := []*v1.Pod{ours("g", 0), ours("g", 1)}
		for _, pod := range pods {
			p.book.follow(pod, true)
			h.waiting[pod.UID] = &waitingPod{}
		}
		delete(h.waiting, pods[1].UID) // it is in its own cycle
		for _, pod := range pods {
			if result, status := p.PreFilter(t.Context(), nil, pod, nil); !status.IsSuccess() || !result.NodeNames.Has("a") {
				t.Fatal(what, status)
			}
		}
		if status, _ := p.Permit(t.Context(), framework.NewCycleState(), pods[0], "a"); !status.IsWait() {
			t.Fatal(what, status)
		}
		fail(p, pods[1])
		if h.waiting[pods[0].UID].rejected != 1 {
			t.Errorf("%s: the sibling waits until its time is over", what)
		}
		for _, pod := range pods {
			if node := p.book.nodeOf(pod.UID); node != "" {
				t.Errorf("%s: %s still has a place on %s", what, pod.Name, node)
			}
		}
		if held, err := p.book.core.Gangs(time.Now()); err != nil || len(held) > 0 {
			t.Errorf("%s: the ledger still holds %v, %v", what, held, err)
		}
	}
}

// group is a PodGroup of which these pods wait.
type group struct {
	fwk.PodGroupInfo
	pods []*v1.Pod
}

func (g *group) GetUnscheduledPods() []*v1.Pod { return g.pods }

// TestAGroupGetsOnePlacement of the nodes that are planned for all of its pods, whatever else there is.
func TestAGroupGetsOnePlacement(t *testing.T) {
	p := plugin(t)
	p.book.nodeCame(nodeOf("b"))
	p.book.nodeCame(nodeOf("c"))
	infos, err := cache.NewSnapshot(nil, []*v1.Node{nodeOf("a"), nodeOf("b"), nodeOf("c")}).NodeInfos().List()
	if err != nil {
		t.Fatal(err)
	}
	all := &fwk.Placement{Name: "all", Nodes: infos}
	of := func(pods ...*v1.Pod) ([]*fwk.Placement, *fwk.Status) {
		result, status := p.GeneratePlacements(t.Context(), nil, &group{pods: pods}, all)
		if result == nil {
			return nil, status
		}
		return result.Placements, status
	}
	// A member fills a node, so that the gang takes two of three.
	whole := func(name string) []*v1.Pod {
		pods := []*v1.Pod{ours(name, 0), ours(name, 1)}
		for _, pod := range pods {
			asks := v1.ResourceList{names.GPU: resource.MustParse("2")}
			pod.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: asks, Limits: asks}
			p.book.follow(pod, true)
		}
		return pods
	}
	pods := whole("g")
	placements, status := of(pods...)
	if !status.IsSuccess() || len(placements) != 1 {
		t.Fatal(placements, status)
	}
	var got []string
	for _, info := range placements[0].Nodes {
		got = append(got, info.Node().Name)
	}
	want := []string{p.book.nodeOf(pods[0].UID), p.book.nodeOf(pods[1].UID)}
	slices.Sort(got)
	slices.Sort(want)
	if want[0] == "" || want[0] == want[1] || !slices.Equal(got, want) {
		t.Fatal("the plan is", want, "and the placement", got)
	}
	if placements, status := of(whole("h")...); len(placements) > 0 || status.Code() != fwk.Unschedulable {
		t.Error("a gang for which there is no room has a placement", placements, status)
	}
	foreign := ours("f", 0)
	foreign.Spec.SchedulerName = "default-scheduler"
	if placements, status := of(foreign); !status.IsSuccess() || len(placements) != 1 || placements[0] != all {
		t.Error("pods that are none of ours do not have all nodes", placements, status)
	}
}
