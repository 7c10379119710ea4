package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
	"thole.dev/kubernetes/names"
)

// bookOf has one node with two GPUs of 8192 MiB.
func bookOf(t *testing.T, timeout time.Duration) *book {
	t.Helper()
	c, err := core.Open("", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return bookOn(t, &ledger{Core: c}, timeout)
}

func bookOn(t *testing.T, c *ledger, timeout time.Duration) *book {
	t.Helper()
	notes, err := openAside("")
	if err != nil {
		t.Fatal(err)
	}
	b := newBook(c, nil, timeout, groups{&podGroups{}, &upstreamGroups{}}, notes)
	b.lost = func([]types.UID) {}
	b.nodeCame(nodeOf("a"))
	return b
}

// nodeOf is a node with two GPUs of 8192 MiB.
func nodeOf(name string) *v1.Node {
	have := v1.ResourceList{v1.ResourceCPU: resource.MustParse("8"), v1.ResourceMemory: resource.MustParse("8Gi")}
	return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{names.GPUs: fmt.Sprintf(`[
		{"uuid": "SIM-%s0", "model": "simulated", "memoryMiB": 8192, "simulated": true}, {"uuid": "SIM-%[1]s1", "model": "simulated", "memoryMiB": 8192, "simulated": true}]`, name)}},
		Status: v1.NodeStatus{Capacity: have, Allocatable: have}}
}

func member(group string, number int) *v1.Pod {
	asks := v1.ResourceList{names.VGPUMemory: resource.MustParse("8192")}
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint(group, "-", number), UID: types.UID(fmt.Sprint(group, number)),
		Labels: map[string]string{names.Gang: group}, Annotations: map[string]string{names.GangSize: "2"}},
		Spec: v1.PodSpec{Containers: []v1.Container{{Name: "main", Resources: v1.ResourceRequirements{Requests: asks, Limits: asks}}}}}
}

func TestAPlanThatNobodyFollowsExpires(t *testing.T) {
	b := bookOf(t, time.Millisecond)
	told := make(chan []types.UID, 1)
	b.lost = func(uids []types.UID) { told <- uids }
	for _, name := range []string{"first", "second"} {
		for i := range 2 {
			b.follow(member(name, i), true)
		}
	}
	if node, _, err := b.place(member("first", 0)); err != nil || node != "a" {
		t.Fatal(node, err)
	}
	if _, _, err := b.place(member("second", 0)); err == nil {
		t.Fatal("two gangs hold the same GPUs")
	}
	select {
	case uids := <-told:
		if len(uids) != 2 {
			t.Fatal(uids)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the plan is still held")
	}
	if _, _, err := b.place(member("second", 0)); err != nil {
		t.Fatal("what the plan held is not free:", err)
	}
}

func TestANodeIsAvoidedAsItIsAndNotAsItWas(t *testing.T) {
	b := bookOf(t, time.Minute)
	at := func(version string) *v1.Node {
		node := b.nodes["a"].object.DeepCopy()
		node.ResourceVersion = version
		return node
	}
	b.nodeCame(at("5"))
	pods := []*v1.Pod{member("g", 0), member("g", 1)}
	for _, pod := range pods {
		b.follow(pod, true)
	}
	// What the cycle has seen, and whether the gang is planned there again.
	for _, c := range []struct {
		seen  *v1.Node
		again bool
	}{{at("4"), true}, {nil, true}, {at("5"), false}} {
		if _, _, err := b.place(pods[0]); err != nil {
			t.Fatal(c.seen, err)
		}
		b.refusedThere(pods[0], func(string) *v1.Node { return c.seen })
		if _, _, err := b.place(pods[0]); (err == nil) != c.again {
			t.Fatal(c.seen, err)
		} else if c.again {
			b.unreserve(pods[0])
		}
	}
}

// Another plugin has refused the node as the book knows it; its event tries the gang again before the book hears of it.
func TestAGangIsTriedAgainWhenTheBookHasCaughtUp(t *testing.T) {
	b := bookOf(t, time.Minute)
	node := b.nodes["a"].object.DeepCopy()
	node.ResourceVersion = "5"
	b.nodeCame(node)
	pods := []*v1.Pod{member("g", 0), member("g", 1)}
	for _, pod := range pods {
		b.follow(pod, true)
	}
	if _, _, err := b.place(pods[0]); err != nil {
		t.Fatal(err)
	}
	if where, let := b.refusedThere(pods[0], func(string) *v1.Node { return node }); where != "a" || len(let) != 2 {
		t.Fatal(where, let)
	}
	for range 2 { // the second is the first one's answer, remembered
		if _, _, err := b.place(pods[0]); err == nil {
			t.Fatal("the node that was refused is planned on at once")
		}
	}
	if waiting := b.again(pods[0]); len(waiting) != 2 {
		t.Fatal(waiting)
	}
	if name, _, err := b.place(pods[0]); err != nil || name != "a" {
		t.Fatal(name, err)
	}
}

func TestARehearsalKeepsThePlan(t *testing.T) {
	b := bookOf(t, time.Minute)
	p := &Plugin{book: b}
	pods := []*v1.Pod{member("g", 0), member("g", 1)}
	for _, pod := range pods {
		b.follow(pod, true)
	}
	if _, _, err := b.place(pods[0]); err != nil {
		t.Fatal(err)
	}
	if status := p.rehearse(pods[0], "a"); !status.IsWait() {
		t.Fatal(status)
	}
	if status := p.rehearse(pods[1], "a"); !status.IsSuccess() {
		t.Fatal(status)
	}
	for _, pod := range pods {
		b.rehearsed(pod)
	}
	// Once more, for good: the first waits again, the second lets both go.
	if all, _, err := b.permit(pods[0], "a"); err != nil || all != nil {
		t.Fatal(all, err)
	}
	if all, _, err := b.permit(pods[1], "a"); err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
}

func TestAGatedMemberIsNotThere(t *testing.T) {
	b := bookOf(t, time.Minute)
	gated := member("g", 1)
	gated.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "example.com/quota"}}
	b.follow(gated, true)
	if err := b.gathered(member("g", 0)); err == nil {
		t.Fatal("a gang of two is there with one member that is gated")
	}
	if key := gang.KeyOf(gated); len(b.gangs[key].pods) != 1 {
		t.Fatal(b.gangs[key].pods)
	}
	gated.Spec.SchedulingGates = nil
	b.follow(gated, true)
	if err := b.gathered(member("g", 0)); err != nil {
		t.Fatal(err)
	}
}

// phases of a gang of two. Each contains those before it, but for the refused one, where another gang holds both GPUs.
var phases = []string{"not gathered", "refused", "planned", "one permitted", "all permitted", "one bound", "all bound"}

const (
	notGathered = iota
	refused
	planned
	onePermitted
	allPermitted
	oneBound
	allBound
)

// reach brings the gang of pods so far; a pod that is bound then says so.
func reach(t *testing.T, b *book, pods []*v1.Pod, phase int) {
	t.Helper()
	b.follow(pods[0], true)
	if err := b.gathered(pods[0]); err == nil {
		t.Fatal("one of two is a whole gang")
	}
	if phase == notGathered {
		return
	}
	b.follow(pods[1], true)
	_, _, err := b.place(pods[0])
	if (err != nil) != (phase == refused) {
		t.Fatal(err)
	}
	for i, pod := range pods {
		if phase < onePermitted+i {
			break
		}
		if all, _, err := b.permit(pod, "a"); err != nil || len(all) != 2*i {
			t.Fatal(all, err)
		}
	}
	for i, pod := range pods {
		if phase < oneBound+i {
			break
		}
		pods[i] = pod.DeepCopy()
		pods[i].Spec.NodeName, pods[i].Annotations[names.Allocation] = "a", "as it was planned"
		b.follow(pods[i], true)
	}
}

func TestAGangIsDeletedInEveryPhase(t *testing.T) {
	for phase, what := range phases {
		for first := range 2 { // which member goes first
			t.Run(fmt.Sprint(what, first), func(t *testing.T) {
				b := bookOf(t, time.Minute)
				before := []*v1.Pod{member("before", 0), member("before", 1)}
				if phase == refused {
					reach(t, b, before, allBound)
				}
				pods := []*v1.Pod{member("g", 0), member("g", 1)}
				reach(t, b, pods, phase)
				if phase == notGathered {
					pods = pods[:1]
				}
				// Who waits for a sibling that will not come loses its place with it; whose binding is on its way does not.
				var want []types.UID
				if phase == planned || phase == onePermitted {
					want = append(want, pods[1-first].UID)
				}
				if lost := b.gone(pods[first%len(pods)]); !slices.Equal(lost, want) {
					t.Fatal("with the first member", lost, "lost their places, not", want)
				}
				for _, pod := range pods {
					b.gone(pod) // again for the first: nothing happens
				}
				for _, pod := range before {
					b.gone(pod)
				}
				if held, err := b.core.Gangs(time.Now()); err != nil || len(held) > 0 {
					t.Fatal("the ledger still holds it", held, err)
				}
				if len(b.gangs)+len(b.seats)+len(b.foreign)+len(b.early)+len(b.ahead) > 0 {
					t.Fatal("the book still knows it", b.gangs, b.seats, b.foreign, b.early, b.ahead)
				}
				next := []*v1.Pod{member("next", 0), member("next", 1)}
				reach(t, b, next, allBound)
				if x, y := b.seats[next[0].UID].placement.Grants, b.seats[next[1].UID].placement.Grants; len(x) != 1 || len(y) != 1 || x[0].UUID == y[0].UUID {
					t.Fatal("the next gang does not have both GPUs", x, y)
				}
			})
		}
	}
}

// TestAGangCostsOneCallAndNoNode, whatever the numbers of members and nodes: the ledger follows by what changes.
func TestAGangCostsOneCallAndNoNode(t *testing.T) {
	b := bookOf(t, time.Minute)
	b.nodeCame(nodeOf("b"))
	b.nodeCame(nodeOf("c"))
	gangOf := func(name string) []*v1.Pod {
		var pods []*v1.Pod
		for i := range 8 {
			pod := member(name, i)
			pod.Annotations[names.GangSize] = "8"
			asks := v1.ResourceList{names.VGPUMemory: resource.MustParse("4096")}
			pod.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: asks, Limits: asks}
			b.follow(pod, true)
			pods = append(pods, pod)
		}
		return pods
	}
	since := b.core.asked
	costs := func(what string, plans, nodes int) {
		t.Helper()
		if got, want := b.core.asked, (asked{since.plans + plans, since.nodes + nodes}); got != want {
			t.Errorf("%s: %d plans and %d nodes, not %d and %d", what, got.plans-since.plans, got.nodes-since.nodes, plans, nodes)
		}
		since = b.core.asked
	}
	place := func(pods []*v1.Pod, fits bool) {
		t.Helper()
		for _, pod := range pods {
			if _, _, err := b.place(pod); (err == nil) != fits {
				t.Fatal(err)
			}
		}
	}
	if since != (asked{0, 3}) {
		t.Error("three nodes came", since)
	}
	first, second := gangOf("first"), gangOf("second")
	costs("pods came", 0, 0)
	place(first[:1], true)
	costs("the first of eight is placed, and with it all; its kind of pod is new, so each node that admits it gets a label", 1, 3)
	place(first, true)
	costs("all eight are looked up", 0, 0)
	place(second, false) // 4 of the 12 places are left
	costs("eight more do not fit", 1, 0)
	place(second, false)
	costs("and are told so again", 0, 0)
	changed := nodeOf("b")
	changed.ResourceVersion, changed.Labels = "2", map[string]string{"new": "label"}
	b.nodeCame(changed)
	costs("one node changes", 0, 1)
	place(second, false)
	costs("eight are tried on it", 1, 0)
	foreign := member("foreign", 0)
	foreign.Labels, foreign.Spec.NodeName = nil, "c"
	foreign.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}
	b.follow(foreign, false)
	costs("a pod of somebody else comes to a node", 0, 1)
	for _, pod := range first {
		b.gone(pod)
	}
	costs("a gang ends", 0, 0)
	place(second, true)
	costs("the other takes its place", 1, 0)
}
