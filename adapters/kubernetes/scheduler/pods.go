package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
	"thole.dev/kubernetes/names"
)

// follow takes in what the API server says of a pod. managed: the ledger is to place and hold it. The UIDs that are answered
// have lost their place.
func (b *book) follow(pod *v1.Pod, managed bool) []types.UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ended(pod) {
		return b.endOf(pod)
	}
	if b.ahead[pod.UID] {
		return nil // an older word of a pod that is known to be gone
	}
	if pod.Spec.NodeName == "" {
		// One with a gate cannot be placed: for its gang it is not there yet.
		if managed && len(pod.Spec.SchedulingGates) == 0 {
			b.entry(gang.KeyOf(pod)).pods[pod.UID] = pod
		}
		return nil
	}
	if s := b.seats[pod.UID]; s != nil {
		if s.placement.Node == pod.Spec.NodeName {
			s.pod = pod
			if managed && pod.Annotations[names.Allocation] == "" {
				klog.ErrorS(nil, "A pod was bound without its allocation: the profile must name Thole first under `bind`", "pod", klog.KObj(pod))
			}
			b.boundNow(pod.UID)
			return nil
		}
		// Somebody else has bound it elsewhere: our plan of it is void.
		klog.InfoS("A pod was bound by somebody else", "pod", klog.KObj(pod), "planned", s.placement.Node, "bound", pod.Spec.NodeName)
		gone := b.vacate(s)
		b.adoptBound(pod)
		return gone
	}
	if b.foreign[pod.UID] == (foreign{}) {
		b.adoptBound(pod)
	}
	return nil
}

// nodeCame takes in a node, and what was bound to it before it was known: pods and nodes come in no order.
func (b *book) nodeCame(object *v1.Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[object.Name]; n != nil && n.object != nil && (n.object == object || isNewer(n.object, object)) {
		return
	}
	b.setNode(object)
	for _, e := range b.gangs { // what another plugin has refused there may be right now
		e.avoid = slices.DeleteFunc(e.avoid, func(name string) bool { return name == object.Name })
	}
	early := b.early[object.Name]
	delete(b.early, object.Name)
	for _, pod := range early {
		b.adoptBound(pod)
	}
}

// ended: the kubelet says that nothing of it runs any more. A pod that is being deleted still holds what it has.
func ended(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}

// gone takes in that a pod is no longer there.
func (b *book) gone(pod *v1.Pod) []types.UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.ahead, pod.UID)
	return b.endOf(pod)
}

// goneAhead is gone, before our own handler has been told.
func (b *book) goneAhead(pod *v1.Pod) []types.UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seats[pod.UID] == nil && b.foreign[pod.UID] == (foreign{}) {
		return nil // our handler was first, or it held nothing
	}
	b.ahead[pod.UID] = true
	return b.endOf(pod)
}

func (b *book) endOf(pod *v1.Pod) []types.UID {
	b.removeForeign(pod.UID)
	delete(b.early[pod.Spec.NodeName], pod.UID)
	var gone []types.UID
	if s := b.seats[pod.UID]; s != nil {
		gone = b.vacate(s)
	}
	if e := b.gangs[gang.KeyOf(pod)]; e != nil {
		delete(e.pods, pod.UID)
		delete(e.told, pod.UID)
		e.refused = nil
		b.forgetIfEmpty(e)
	}
	return gone
}

// vacate frees one seat. If its batch is not bound yet it cannot be whole any more: it is abandoned.
func (b *book) vacate(s *seat) []types.UID {
	t := s.batch
	delete(b.seats, s.pod.UID)
	t.seats = slices.DeleteFunc(t.seats, func(o *seat) bool { return o == s })
	var gone []types.UID
	if slices.ContainsFunc(t.seats, func(o *seat) bool { return !o.bound && !o.binding }) {
		gone = b.abandon(t)
	}
	if len(gone) == 0 {
		b.settle(t)
	}
	return gone
}

// adoptBound takes in a pod that is bound and was not placed by this process: out of what was written on it, after a restart
// or for another leader. A pod that holds devices of which nobody knows which closes its node for as long as it runs.
func (b *book) adoptBound(pod *v1.Pod) {
	if n := b.nodes[pod.Spec.NodeName]; n == nil || n.object == nil {
		if b.early[pod.Spec.NodeName] == nil {
			b.early[pod.Spec.NodeName] = map[types.UID]*v1.Pod{}
		}
		b.early[pod.Spec.NodeName][pod.UID] = pod
		return
	}
	a, err := gang.AllocationOf(pod)
	if err == nil && a != nil {
		err = b.adoptSeat(pod, a)
	}
	switch {
	case err != nil:
		klog.ErrorS(err, "A pod's allocation was not taken over: its node takes nothing new until it ends", "pod", klog.KObj(pod))
		b.addForeign(pod, pod.Spec.NodeName, true)
	case a == nil:
		spoils := gang.Asks(pod)
		if spoils {
			klog.ErrorS(nil, "A pod holds devices that this scheduler did not give it: its node takes nothing new until it ends", "pod", klog.KObj(pod))
		}
		b.addForeign(pod, pod.Spec.NodeName, spoils)
	}
}

// isNewer: a is a later state of the same object than b (KEP-5504: resource versions of one resource can be compared).
func isNewer(a, b *v1.Node) bool {
	x, xErr := strconv.ParseUint(a.ResourceVersion, 10, 64)
	y, yErr := strconv.ParseUint(b.ResourceVersion, 10, 64)
	return a.UID == b.UID && xErr == nil && yErr == nil && x >= y
}

func (b *book) adoptSeat(pod *v1.Pod, a *gang.Allocation) error {
	id, err := a.ID()
	if err != nil {
		return err
	}
	d, err := gang.DemandOf(pod)
	if err != nil {
		return err
	}
	e := b.entry(gang.KeyOf(pod))
	e.pods[pod.UID] = pod
	e.generation = max(e.generation, a.Generation+1)
	t := e.batchOf(id, a.Generation)
	for n := uint32(len(t.roles)); n <= a.RoleIndex; n++ {
		// A role of which no pod was seen yet. Its members may come, or all have ended.
		t.roles = append(t.roles, core.Role{Name: fmt.Sprintf("unseen-%d", n), Members: 1, MinMembers: 1})
	}
	if r := &t.roles[a.RoleIndex]; r.Name != a.Role {
		*r = core.Role{Name: a.Role, Members: max(r.Members, 1), MinMembers: 1, Kind: d.Kind, Devices: d.Devices, ShareMilli: d.ShareMilli,
			VGPUMemoryMiB: d.VGPUMemoryMiB, CPUMilli: d.CPUMilli, MemoryMiB: d.MemoryMiB}
	}
	s := &seat{pod: pod, batch: t, role: a.RoleIndex, bound: true, placement: core.Placement{Role: a.RoleIndex, Member: a.Member,
		FirstRank: a.FirstRank, Node: a.Node, Grants: a.Grants}}
	t.seats = append(t.seats, s)
	if err := b.adopt(t); err != nil {
		t.seats = slices.DeleteFunc(t.seats, func(o *seat) bool { return o == s })
		if len(t.seats) == 0 {
			e.batches = slices.DeleteFunc(e.batches, func(o *batch) bool { return o == t })
		}
		return err
	}
	t.confirmed = true
	b.seats[pod.UID] = s
	return nil
}

func (e *entry) batchOf(id core.ID, generation uint64) *batch {
	for _, t := range e.batches {
		if t.id == id {
			return t
		}
	}
	t := &batch{id: id, generation: generation, gang: e}
	e.batches = append(e.batches, t)
	slices.SortFunc(e.batches, func(x, y *batch) int { return cmp.Compare(x.generation, y.generation) })
	return t
}

// refusedThere: another plugin does not let a planned member onto its node. The gang is placed again, elsewhere. But where the
// book is ahead of the cycle, what was refused is the node of before: the event that changed it tries the pod again, there.
// The answer is that node, none if the pod was not planned, and the members whose places are given back.
func (b *book) refusedThere(pod *v1.Pod, seen func(node string) *v1.Node) (string, []types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.seats[pod.UID]
	if s == nil || s.bound || s.binding {
		return "", nil
	}
	e, name := s.batch.gang, s.placement.Node
	const most = 64
	if b.isOf(name, seen(name)) && !slices.Contains(e.avoid, name) && len(e.avoid) < most {
		e.avoid = append(e.avoid, name)
	}
	e.avoidUntil = b.now().Add(b.timeout)
	return name, b.abandon(s.batch)
}

// isOf: whether a cycle that has seen a node so has seen the newest that the book knows.
func (b *book) isOf(name string, seen *v1.Node) bool {
	n := b.nodes[name]
	return seen != nil && (n == nil || n.object == nil || isNewer(seen, n.object))
}

// again are the members of a pod's gang that wait. What the gang was told counts no more.
func (b *book) again(pod *v1.Pod) map[string]*v1.Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.gangs[gang.KeyOf(pod)]
	if e == nil {
		return nil
	}
	e.refused = nil
	out := map[string]*v1.Pod{}
	for _, one := range e.pending(b.seats) {
		out[one.Namespace+"/"+one.Name] = one
	}
	return out
}

// unreserve: a member did not get through. Its siblings are released at once.
func (b *book) unreserve(pod *v1.Pod) []types.UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removeForeign(pod.UID)
	s := b.seats[pod.UID]
	if s == nil || s.bound {
		return nil
	}
	s.binding, s.permitted = false, false
	return b.abandon(s.batch)
}
