package scheduler

import (
	"fmt"
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
	have := v1.ResourceList{v1.ResourceCPU: resource.MustParse("8"), v1.ResourceMemory: resource.MustParse("8Gi")}
	b.nodeCame(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{names.GPUs: `[
		{"uuid": "SIM-0", "model": "simulated", "memoryMiB": 8192, "simulated": true}, {"uuid": "SIM-1", "model": "simulated", "memoryMiB": 8192, "simulated": true}]`}},
		Status: v1.NodeStatus{Capacity: have, Allocatable: have}})
	return b
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
