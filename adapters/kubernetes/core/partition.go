package core

// #include "calls.h"
import "C"

import "strings"

// Member is one that gets something.
type Member struct {
	Gang                ID
	Attempt, Generation uint64
	Role                string
	Placement           Placement
}

// Assignment is what a member is given on its node.
type Assignment struct {
	Record      string            // the bytes of the allocation record
	Environment map[string]string // CUDA_VISIBLE_DEVICES and what the devices need
}

// Assign answers what a member is given, out of its placement.
func (c *Core) Assign(m *Member) (*Assignment, error) {
	var a arena
	defer a.release()
	placement, _ := array[C.thole_placement](&a, 1)
	placement[0] = a.placement(&m.Placement)
	member := C.thole_member{struct_size: C.sizeof_thole_member, gang: C.thole_id{hi: C.uint64_t(m.Gang.Hi), lo: C.uint64_t(m.Gang.Lo)},
		attempt: C.uint64_t(m.Attempt), generation: C.uint64_t(m.Generation), role: a.text(m.Role), placement: &placement[0]}
	given := C.thole_assignment{struct_size: C.sizeof_thole_assignment}
	err := a.call(4096, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.partition_assign(c.root, c.handle, &member, &given, room, status)
	})
	if err != nil {
		return nil, err
	}
	out := &Assignment{Record: text(given.record), Environment: map[string]string{}}
	for _, v := range texts(given.environment) {
		name, value, _ := strings.Cut(v, "=")
		out.Environment[name] = value
	}
	return out, nil
}
