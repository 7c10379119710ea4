// Package scheduler is the plugin for the scheduling framework of kube-scheduler: it places each gang with one call of
// Thole's ledger, and every other hook is a look-up in what that call has answered.
package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
)

// book has the gangs that are known, and who sits where. What is placed is what pods in etcd say; the book follows them, and
// runs ahead by what has been planned and is not bound yet.
type book struct {
	mu sync.Mutex
	mirror
	gangs   map[gang.Key]*entry
	seats   map[types.UID]*seat
	early   map[string]map[types.UID]*v1.Pod // bound to a node that is not known yet
	ahead   map[types.UID]bool               // known to be gone before our own handler was told
	groups  groups
	aside   *aside
	lost    func([]types.UID) // tells the framework of pods that have lost their place while nobody asked
	now     func() time.Time
	timeout time.Duration
}

// entry is one gang: its pods that are not at their end, and what was placed of it, batch by batch.
type entry struct {
	key        gang.Key
	pods       map[types.UID]*v1.Pod
	batches    []*batch
	generation uint64 // of the next batch
	refused    *refusal
	told       map[types.UID]string // what was last told of a pod that is held back
	avoid      []string             // nodes on which another plugin has just refused a planned member
	avoidUntil time.Time
}

// batch is what was placed with one call: one gang of the ledger. A gang that has begun and gets more pods has several.
type batch struct {
	id         core.ID
	generation uint64
	gang       *entry
	roles      []core.Role
	topology   []core.Topology
	seats      []*seat
	deadline   time.Time // until then all must have got through to Permit
	confirmed  bool
}

// seat is a pod's place. planned -> permitted -> bound; an adopted one is bound from the start.
type seat struct {
	pod       *v1.Pod
	batch     *batch
	role      uint32
	placement core.Placement
	permitted bool
	binding   bool // has left Permit: its binding is on its way and cannot be called back
	bound     bool
}

// refusal is why a gang cannot be placed, and on which state of things that was found.
type refusal struct {
	changes  uint64
	pods     int
	message  string
	hopeless bool // whatever else ends, this will not fit as it is written
}

func (r *refusal) Error() string { return r.message }

func newBook(c *ledger, levels []gang.Level, timeout time.Duration, g groups, a *aside) *book {
	return &book{mirror: mirror{core: c, levels: levels, nodes: map[string]*node{}, foreign: map[types.UID]foreign{}, admissions: map[string]*admission{}},
		gangs: map[gang.Key]*entry{}, seats: map[types.UID]*seat{}, ahead: map[types.UID]bool{}, early: map[string]map[types.UID]*v1.Pod{}, groups: g, aside: a, now: time.Now, timeout: timeout}
}

// needs is what the gang of a pod needs.
func (b *book) needs(pod *v1.Pod, key gang.Key) (needs, error) {
	switch key.Source {
	case gang.Alone:
		return needs{least: 1}, nil
	case gang.Ours:
		least, err := gang.SizeOnPod(pod)
		return needs{least: least}, err
	default:
		return b.groups.of(key)
	}
}

// gathered tells whether enough members exist for the pod's gang to be placed; else why not.
func (b *book) gathered(pod *v1.Pod) error {
	key := gang.KeyOf(pod)
	if key.Source == gang.Alone {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if why := b.aside.why(key); why != "" {
		return errors.New(why)
	}
	n, err := b.needs(pod, key)
	if err != nil {
		return err
	}
	e := b.entry(key)
	e.pods[pod.UID] = pod
	if have := len(e.pods); have < n.least && len(e.batches) == 0 {
		return fmt.Errorf("GangNotGathered: %d of the %d members of gang %s exist: it is placed when all do", have, n.least, key)
	}
	return nil
}

// tells answers whether a sentence about a pod is new, and remembers it.
func (b *book) tells(pod *v1.Pod, sentence string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(gang.KeyOf(pod))
	if e.told[pod.UID] == sentence {
		return false
	}
	if e.told == nil {
		e.told = map[types.UID]string{}
	}
	e.told[pod.UID] = sentence
	return true
}

func (b *book) entry(key gang.Key) *entry {
	e := b.gangs[key]
	if e == nil {
		e = &entry{key: key, pods: map[types.UID]*v1.Pod{}}
		b.gangs[key] = e
	}
	return e
}

// place answers the node of a pod: of the plan that its gang has, or else of one that is made now, for all of its members
// together. wake are members that can follow at once, or are to be told the same.
func (b *book) place(pod *v1.Pod) (node string, wake []*v1.Pod, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.seats[pod.UID]; s != nil {
		return s.placement.Node, nil, nil
	}
	key := gang.KeyOf(pod)
	e := b.entry(key)
	e.pods[pod.UID] = pod
	pending := e.pending(b.seats)
	if r := e.refused; r != nil && r.changes == b.changes && r.pods == len(pending) {
		return "", nil, r
	}
	if err := b.plan(e, pod, pending); err != nil {
		var r *refusal
		if !errors.As(err, &r) {
			r = &refusal{message: err.Error(), hopeless: true}
		}
		r.changes, r.pods = b.changes, len(pending)
		e.refused = r
		return "", e.toldBefore(pod), r
	}
	e.refused = nil
	s := b.seats[pod.UID]
	if s == nil {
		return "", nil, &refusal{message: fmt.Sprintf("GangNoFitInCluster: gang %s runs with fewer members; there is no room for this one", key)}
	}
	for _, other := range s.batch.seats {
		if other != s {
			wake = append(wake, other.pod)
		}
	}
	return s.placement.Node, wake, nil
}

// toldBefore are the siblings of a pod that were told something while they were held back: they are to be told anew.
func (e *entry) toldBefore(pod *v1.Pod) []*v1.Pod {
	var out []*v1.Pod
	for uid := range e.told {
		if other := e.pods[uid]; other != nil && uid != pod.UID {
			out = append(out, other)
		}
	}
	e.told = nil
	return out
}

// pending are the gang's pods that wait for a place.
func (e *entry) pending(seats map[types.UID]*seat) []*v1.Pod {
	var out []*v1.Pod
	for uid, pod := range e.pods {
		if seats[uid] == nil && pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil {
			out = append(out, pod)
		}
	}
	return out
}

// plan makes the one call for the gang, and holds what it answers.
func (b *book) plan(e *entry, pod *v1.Pod, pending []*v1.Pod) error {
	if why := b.aside.why(e.key); why != "" {
		return &refusal{message: why, hopeless: true}
	}
	n, err := b.needs(pod, e.key)
	if err != nil {
		return err
	}
	if len(e.batches) > 0 {
		n.least = 1 // it has begun: whoever comes now joins when there is room
	}
	if len(pending) < n.least {
		return fmt.Errorf("GangNotGathered: %d of the %d members of gang %s exist: it is placed when all do", len(pending), n.least, e.key)
	}
	request, err := b.request(e, pending, n)
	if err != nil {
		return fmt.Errorf("RequestBad: %w", err)
	}
	now := b.now()
	b.aside.entering(e.key)
	plan, err := b.core.Plan(&request.Request, now)
	if err == nil {
		err = b.core.Reserve(&request.Request, plan, core.Terms{Now: now})
	}
	b.aside.left()
	if err != nil {
		var c *core.Error
		if errors.As(err, &c) && c.Code != core.Invalid {
			e.avoid = nil // what was avoided may be all there is
			return &refusal{message: c.Error()}
		}
		return err
	}
	b.seat(e, request, plan)
	return nil
}

func (b *book) request(e *entry, pending []*v1.Pod, n needs) (*gang.Request, error) {
	now := b.now()
	if now.After(e.avoidUntil) {
		e.avoid = nil
	}
	var members []gang.Member
	for _, p := range pending {
		d, err := gang.DemandOf(p)
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", p.Name, err)
		}
		a := gang.AdmissionOf(p, slices.Clone(e.avoid)...)
		d.Label = a.Label
		b.admit(a, now)
		members = append(members, gang.Member{Pod: p, Demand: d})
	}
	r, err := gang.RequestOf(e.key.ID(e.generation), members, n.least)
	if err == nil && r.Topology == nil {
		r.Topology = n.topology
	}
	return r, err
}

func (b *book) seat(e *entry, r *gang.Request, plan *core.Plan) {
	t := &batch{id: r.Gang, generation: e.generation, gang: e, roles: r.Roles, topology: r.Topology, deadline: b.now().Add(b.timeout)}
	e.generation++
	e.batches = append(e.batches, t)
	for _, p := range plan.Placements {
		s := &seat{pod: r.Pods[p.Role][p.Member], batch: t, role: p.Role, placement: p}
		t.seats = append(t.seats, s)
		b.seats[s.pod.UID] = s
	}
	time.AfterFunc(b.timeout+time.Second, func() { b.expire(t) })
	klog.V(2).InfoS("Placed a gang", "gang", e.key, "generation", t.generation, "members", len(t.seats), "ranks", plan.Ranks)
}

// permit counts a member in. When it is the last, all of its batch may go: their UIDs.
func (b *book) permit(pod *v1.Pod, node string) (go_ []types.UID, wait time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.seats[pod.UID]
	if s == nil || s.placement.Node != node {
		return nil, 0, fmt.Errorf("PlanStale: the plan in which the pod lies on %s is gone; it is placed again", node)
	}
	s.permitted = true
	for _, other := range s.batch.seats {
		if !other.permitted && !other.bound {
			return nil, max(time.Until(s.batch.deadline), time.Millisecond), nil
		}
	}
	for _, other := range s.batch.seats {
		other.binding = true
		go_ = append(go_, other.pod.UID)
	}
	return go_, 0, nil
}

// allocation of a pod that is about to be bound.
func (b *book) allocation(pod *v1.Pod) (*gang.Allocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.seats[pod.UID]
	if s == nil {
		return nil, errors.New("PlanStale: the plan of the pod's gang is gone; it is placed again")
	}
	t := s.batch
	return &gang.Allocation{Gang: t.id.String(), Generation: t.generation, Role: t.roles[s.role].Name, RoleIndex: s.role,
		Member: s.placement.Member, FirstRank: s.placement.FirstRank, Node: s.placement.Node, Grants: s.placement.Grants}, nil
}

// boundNow marks a pod as bound; with the last one the batch is confirmed.
func (b *book) boundNow(uid types.UID) {
	s := b.seats[uid]
	if s == nil {
		return
	}
	s.bound = true
	t := s.batch
	if t.confirmed || slices.ContainsFunc(t.seats, func(o *seat) bool { return !o.bound }) {
		return
	}
	if err := b.core.Confirm(t.id, b.now()); err != nil {
		klog.ErrorS(err, "A gang was not confirmed", "gang", t.gang.key)
	}
	t.confirmed = true
}

// abandon takes back what a batch has planned and not bound, so that its members wait again, all of them. Their UIDs are
// answered: those that wait in Permit are to be rejected.
func (b *book) abandon(t *batch) []types.UID {
	var gone []types.UID
	var kept []*seat
	for _, s := range t.seats {
		if s.bound || s.binding {
			kept = append(kept, s)
			continue
		}
		delete(b.seats, s.pod.UID)
		gone = append(gone, s.pod.UID)
	}
	if len(gone) > 0 {
		t.seats = kept
		b.settle(t)
	}
	return gone
}

// expire takes back a plan that nobody has followed: the framework may end a pod's cycle without telling this plugin.
func (b *book) expire(t *batch) {
	var gone []types.UID
	b.locked(func() {
		if slices.Contains(t.gang.batches, t) {
			gone = b.abandon(t)
		}
	})
	if len(gone) > 0 {
		klog.InfoS("A plan was not followed in time", "gang", t.gang.key, "members", len(gone))
		b.lost(gone)
	}
}

// settle gives the ledger what is left of a batch.
func (b *book) settle(t *batch) {
	b.changes++
	t.gang.refused = nil
	if len(t.seats) == 0 {
		if err := b.core.Release(t.id); err != nil {
			klog.ErrorS(err, "A gang was not released", "gang", t.gang.key)
		}
		t.gang.batches = slices.DeleteFunc(t.gang.batches, func(o *batch) bool { return o == t })
		b.forgetIfEmpty(t.gang)
		return
	}
	if err := b.adopt(t); err != nil {
		klog.ErrorS(err, "What is left of a gang was not taken over by the ledger", "gang", t.gang.key)
	}
}

// adopt tells the ledger that a batch holds exactly its seats.
func (b *book) adopt(t *batch) error {
	slices.SortFunc(t.seats, func(x, y *seat) int {
		if x.role != y.role {
			return int(x.role) - int(y.role)
		}
		return int(x.placement.Member) - int(y.placement.Member)
	})
	plan := &core.Plan{Gang: t.id}
	for _, s := range t.seats {
		plan.Placements = append(plan.Placements, s.placement)
		t.roles[s.role].Members = max(t.roles[s.role].Members, s.placement.Member+1)
	}
	request := &core.Request{Gang: t.id, Roles: slices.Clone(t.roles)}
	for i := range request.Roles {
		request.Roles[i].MinMembers, request.Roles[i].Topology, request.Roles[i].Label = 1, nil, ""
	}
	return b.core.Reserve(request, plan, core.Terms{Now: b.now(), Adopt: true})
}

func (b *book) forgetIfEmpty(e *entry) {
	if len(e.pods) == 0 && len(e.batches) == 0 {
		delete(b.gangs, e.key)
	}
}
