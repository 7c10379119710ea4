package core

// #include "calls.h"
import "C"

import "time"

// Topology is a wish for one domain of a level.
type Topology struct {
	Level    string `json:"level"`
	Required bool   `json:"required"`
}

// Role is what members of one kind want.
type Role struct {
	Name                string
	Members, MinMembers uint32
	RanksPerMember      uint32
	Kind                Kind
	Devices             uint32 // of a member
	ShareMilli          uint32
	VGPUMemoryMiB       uint64
	MIGProfile          string
	GPUModel            string
	CPUMilli, MemoryMiB uint64
	Topology            []Topology
	Label               string // only on nodes that have it
}

// Request is a whole gang.
type Request struct {
	Gang     ID
	Roles    []Role
	Topology []Topology
}

// Grant is a device that a member holds.
type Grant struct {
	UUID       string    `json:"uuid"`
	Kind       Kind      `json:"kind"`
	ShareMilli uint32    `json:"shareMilli"`
	MemoryMiB  uint64    `json:"memoryMiB"`
	ContextMiB uint64    `json:"contextMiB"`
	MIGProfile string    `json:"migProfile,omitempty"`
	MIGPlace   [2]uint32 `json:"migPlace,omitzero"`
	Simulated  bool      `json:"simulated,omitempty"`
}

// Placement is where a member lies.
type Placement struct {
	Role, Member     uint32
	FirstRank, Ranks uint32
	Node             string
	Grants           []Grant
}

// Plan is a proposal, or what a gang holds, in the order of roles and members.
type Plan struct {
	Gang       ID
	Ranks      uint32
	Confirmed  bool
	Placements []Placement
}

func (a *arena) topology(wishes []Topology) C.thole_list {
	out, list := array[C.thole_topology](a, len(wishes))
	for i, w := range wishes {
		out[i] = C.thole_topology{struct_size: C.sizeof_thole_topology, level: a.text(w.Level), mode: C.THOLE_TOPOLOGY_PREFERRED}
		if w.Required {
			out[i].mode = C.THOLE_TOPOLOGY_REQUIRED
		}
	}
	return list
}

func (a *arena) request(r *Request) *C.thole_gang_request {
	roles, list := array[C.thole_role](a, len(r.Roles))
	for i := range r.Roles {
		from := &r.Roles[i]
		roles[i] = C.thole_role{struct_size: C.sizeof_thole_role, name: a.text(from.Name), members: C.uint32_t(from.Members),
			min_members: C.uint32_t(from.MinMembers), ranks_per_member: C.uint32_t(from.RanksPerMember),
			device_kind: C.thole_device_kind(from.Kind), devices: C.uint32_t(from.Devices), vgpu_share_milli: C.uint32_t(from.ShareMilli),
			vgpu_memory_mib: C.uint64_t(from.VGPUMemoryMiB), mig_profile: a.text(from.MIGProfile), gpu_model: a.text(from.GPUModel),
			cpu_milli: C.uint64_t(from.CPUMilli), memory_mib: C.uint64_t(from.MemoryMiB), topology: a.topology(from.Topology),
			label: a.text(from.Label)}
	}
	return &C.thole_gang_request{struct_size: C.sizeof_thole_gang_request, gang: C.thole_id{hi: C.uint64_t(r.Gang.Hi), lo: C.uint64_t(r.Gang.Lo)},
		roles: list, topology: a.topology(r.Topology)}
}

// A placement of the library's answer takes some 400 bytes with its grants.
func roomFor(r *Request) uintptr {
	var members uintptr = 4
	for _, role := range r.Roles {
		members += uintptr(role.Members)
	}
	return 512 * members
}

// Plan finds places for the whole gang, and changes nothing. An *Error with Code NoFit says why there are none.
func (c *Core) Plan(r *Request, now time.Time) (*Plan, error) {
	var a arena
	defer a.release()
	plan, err := c.plan(&a, a.request(r), roomFor(r), now)
	if err != nil {
		return nil, err
	}
	return planOf(plan), nil
}

func (c *Core) plan(a *arena, request *C.thole_gang_request, room uintptr, now time.Time) (*C.thole_plan, error) {
	plan := &C.thole_plan{struct_size: C.sizeof_thole_plan}
	return plan, a.call(room, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.gang_plan(c.root, c.handle, request, C.int64_t(now.UnixNano()), plan, room, status)
	})
}

func planOf(p *C.thole_plan) *Plan {
	out := &Plan{Gang: ID{uint64(p.gang.hi), uint64(p.gang.lo)}, Ranks: uint32(p.ranks), Confirmed: p.state == C.THOLE_GANG_CONFIRMED}
	names := map[C.thole_str]string{} // members that follow one another share a node's name
	for _, at := range elements[C.thole_placement](p.placements) {
		node, known := names[at.node]
		if !known {
			node = text(at.node)
			names[at.node] = node
		}
		to := Placement{uint32(at.role), uint32(at.member), uint32(at.first_rank), uint32(at.ranks), node, nil}
		for _, g := range elements[C.thole_grant](at.grants) {
			to.Grants = append(to.Grants, Grant{text(g.uuid), Kind(g.kind), uint32(g.share_milli), uint64(g.memory_mib), uint64(g.context_mib),
				text(g.mig_profile), [2]uint32{uint32(g.mig.start), uint32(g.mig.size)}, g.flags&C.THOLE_GPU_SIMULATED != 0})
		}
		out.Placements = append(out.Placements, to)
	}
	return out
}

func (a *arena) placement(p *Placement) C.thole_placement {
	grants, list := array[C.thole_grant](a, len(p.Grants))
	for i, g := range p.Grants {
		grants[i] = C.thole_grant{struct_size: C.sizeof_thole_grant, uuid: a.text(g.UUID), kind: C.thole_device_kind(g.Kind),
			share_milli: C.uint32_t(g.ShareMilli), memory_mib: C.uint64_t(g.MemoryMiB), mig_profile: a.text(g.MIGProfile),
			mig: C.thole_mig_place{start: C.uint32_t(g.MIGPlace[0]), size: C.uint32_t(g.MIGPlace[1])}, context_mib: C.uint64_t(g.ContextMiB)}
		if g.Simulated {
			grants[i].flags = C.THOLE_GPU_SIMULATED
		}
	}
	return C.thole_placement{struct_size: C.sizeof_thole_placement, role: C.uint32_t(p.Role), member: C.uint32_t(p.Member),
		first_rank: C.uint32_t(p.FirstRank), ranks: C.uint32_t(p.Ranks), node: a.text(p.Node), grants: list}
}

// Terms of a reservation.
type Terms struct {
	Now     time.Time
	Expires time.Time // zero: never
	Adopt   bool      // the platform runs it already
}

// Reserve holds exactly the placements of a plan; with terms.Adopt in the place of what the gang held before.
func (c *Core) Reserve(r *Request, p *Plan, terms Terms) error {
	var a arena
	defer a.release()
	return c.reserve(a.request(r), a.plan(p), terms)
}

func (a *arena) plan(p *Plan) *C.thole_plan {
	placements, list := array[C.thole_placement](a, len(p.Placements))
	for i := range p.Placements {
		placements[i] = a.placement(&p.Placements[i])
	}
	return &C.thole_plan{struct_size: C.sizeof_thole_plan, gang: C.thole_id{hi: C.uint64_t(p.Gang.Hi), lo: C.uint64_t(p.Gang.Lo)}, placements: list}
}

func (c *Core) reserve(request *C.thole_gang_request, plan *C.thole_plan, terms Terms) error {
	reservation := C.thole_reservation{struct_size: C.sizeof_thole_reservation, now_ns: C.int64_t(terms.Now.UnixNano())}
	if !terms.Expires.IsZero() {
		reservation.expires_ns = C.int64_t(terms.Expires.UnixNano())
	}
	if terms.Adopt {
		reservation.flags = C.THOLE_RESERVE_ADOPT
	}
	status := newStatus()
	if C.gang_reserve(c.root, c.handle, request, plan, &reservation, &status) != C.THOLE_OK {
		return said(&status)
	}
	return nil
}

// Confirm makes a reservation an allocation, which does not expire.
func (c *Core) Confirm(gang ID, now time.Time) error {
	status := newStatus()
	id := C.thole_id{hi: C.uint64_t(gang.Hi), lo: C.uint64_t(gang.Lo)}
	if C.gang_confirm(c.root, c.handle, id, C.int64_t(now.UnixNano()), &status) != C.THOLE_OK {
		return said(&status)
	}
	return nil
}

// Release gives back all that a gang holds. Unknown gangs are no error.
func (c *Core) Release(gang ID) error {
	status := newStatus()
	if C.gang_release(c.root, c.handle, C.thole_id{hi: C.uint64_t(gang.Hi), lo: C.uint64_t(gang.Lo)}, &status) != C.THOLE_OK {
		return said(&status)
	}
	return nil
}

// Gangs answers all that gangs hold, reserved or confirmed.
func (c *Core) Gangs(now time.Time) ([]*Plan, error) {
	var a arena
	defer a.release()
	query := C.thole_gang_query{struct_size: C.sizeof_thole_gang_query, now_ns: C.int64_t(now.UnixNano())}
	list := C.thole_plan_list{struct_size: C.sizeof_thole_plan_list}
	err := a.call(blockSize, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.gang_gangs(c.root, c.handle, &query, &list, room, status)
	})
	if err != nil {
		return nil, err
	}
	var out []*Plan
	for _, p := range elements[C.thole_plan](list.plans) {
		out = append(out, planOf(p))
	}
	return out, nil
}

// Explanation says why a request does not fit: the tightest constraint, with numbers.
type Explanation struct {
	Fits              bool
	Undecided         bool
	Needed, Available uint32
	Role              uint32
	Level, Domain     string
	Reason, Message   string
	Blockers          []Blocker
	LargestHoleMiB    uint64
}

// Blocker is what nodes lack first.
type Blocker struct {
	What  string
	Nodes uint64
}

// Explain answers why Plan would not succeed. Changes nothing.
func (c *Core) Explain(r *Request, now time.Time) (Explanation, error) {
	var a arena
	defer a.release()
	request, e := a.request(r), C.thole_explanation{struct_size: C.sizeof_thole_explanation}
	err := a.call(4096, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.gang_explain(c.root, c.handle, request, C.int64_t(now.UnixNano()), &e, room, status)
	})
	if err != nil {
		return Explanation{}, err
	}
	out := Explanation{e.fits == C.THOLE_FIT_YES, e.fits == C.THOLE_FIT_UNDECIDED, uint32(e.needed), uint32(e.available), uint32(e.role),
		text(e.level), text(e.domain), text(e.reason), text(e.message), nil, uint64(e.largest_hole_mib)}
	for _, b := range elements[C.thole_blocker](e.blockers) {
		out.Blockers = append(out.Blockers, Blocker{text(b.what), uint64(b.nodes)})
	}
	return out, nil
}
