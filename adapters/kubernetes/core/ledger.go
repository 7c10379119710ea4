package core

// #include "calls.h"
import "C"

import (
	"fmt"
	"time"
)

// ID names a gang: the caller's 128 bits.
type ID struct{ Hi, Lo uint64 }

// String is the ID as annotations and JSON have it: 32 hexadecimal digits.
func (id ID) String() string { return fmt.Sprintf("%016x%016x", id.Hi, id.Lo) }

// Kind of a device.
type Kind int32

// The kinds of devices (thole_device_kind).
const (
	None  Kind = C.THOLE_KIND_NONE
	Whole Kind = C.THOLE_KIND_WHOLE
	VGPU  Kind = C.THOLE_KIND_VGPU
	MIG   Kind = C.THOLE_KIND_MIG
)

// MIGProfile is a profile that a GPU offers.
type MIGProfile struct {
	Name       string
	MemoryMiB  uint64
	Count      uint32
	ShareMilli uint32
	Places     [][2]uint32 // first memory slice, memory slices
}

// GPU is one physical GPU of a node.
type GPU struct {
	UUID, Model           string
	MemoryMiB, ContextMiB uint64
	MaxVGPUs              uint32
	Simulated, Unhealthy  bool
	InMIGMode             bool
	MIG                   []MIGProfile
}

// Node is a machine as the platform knows it. Domains has one entry for each level of SetLevels.
type Node struct {
	Name                string
	Domains             []string
	Labels              []string
	CPUMilli, MemoryMiB uint64
	Cordoned            bool
	GPUs                []GPU
}

// SetLevels names the levels of the topology, outermost first. Once, before the first node.
func (c *Core) SetLevels(names []string) error {
	var a arena
	defer a.release()
	list, status := a.texts(names), newStatus()
	if C.gang_set_levels(c.root, c.handle, &list, &status) != C.THOLE_OK {
		return said(&status)
	}
	return nil
}

// SetNodes adds nodes, or replaces what is known of them: all or none.
func (c *Core) SetNodes(nodes []Node) error {
	var a arena
	defer a.release()
	out, list := array[C.thole_node](&a, len(nodes))
	for i := range nodes {
		a.node(&nodes[i], &out[i])
	}
	status := newStatus()
	if C.gang_set_nodes(c.root, c.handle, &list, &status) != C.THOLE_OK {
		return said(&status)
	}
	return nil
}

func (a *arena) node(n *Node, to *C.thole_node) {
	to.struct_size = C.sizeof_thole_node
	to.name, to.domains, to.labels = a.text(n.Name), a.texts(n.Domains), a.texts(n.Labels)
	to.cpu_milli, to.memory_mib = C.uint64_t(n.CPUMilli), C.uint64_t(n.MemoryMiB)
	if n.Cordoned {
		to.flags = C.THOLE_NODE_CORDONED
	}
	to.gpus = a.gpus(n.GPUs)
}

func (a *arena) gpus(gpus []GPU) C.thole_list {
	out, list := array[C.thole_gpu](a, len(gpus))
	for i, g := range gpus {
		to := &out[i]
		to.struct_size = C.sizeof_thole_gpu
		to.uuid, to.model = a.text(g.UUID), a.text(g.Model)
		to.memory_mib, to.context_mib = C.uint64_t(g.MemoryMiB), C.uint64_t(g.ContextMiB)
		to.max_vgpus = C.uint32_t(g.MaxVGPUs)
		for _, f := range []struct {
			on   bool
			flag C.uint32_t
		}{{g.Simulated, C.THOLE_GPU_SIMULATED}, {g.Unhealthy, C.THOLE_GPU_UNHEALTHY}, {g.InMIGMode, C.THOLE_GPU_MIG}} {
			if f.on {
				to.flags |= f.flag
			}
		}
		to.mig = a.profiles(g.MIG)
	}
	return list
}

func (a *arena) profiles(profiles []MIGProfile) C.thole_list {
	out, list := array[C.thole_mig_profile](a, len(profiles))
	for i, p := range profiles {
		places, at := array[C.thole_mig_place](a, len(p.Places))
		for j, place := range p.Places {
			places[j] = C.thole_mig_place{start: C.uint32_t(place[0]), size: C.uint32_t(place[1])}
		}
		out[i] = C.thole_mig_profile{struct_size: C.sizeof_thole_mig_profile, name: a.text(p.Name), memory_mib: C.uint64_t(p.MemoryMiB),
			count: C.uint32_t(p.Count), share_milli: C.uint32_t(p.ShareMilli), placements: at}
	}
	return list
}

// RemoveNode forgets a node; one that holds something is forgotten with the last release.
func (c *Core) RemoveNode(name string) error {
	var a arena
	defer a.release()
	status := newStatus()
	if C.gang_remove_node(c.root, c.handle, a.text(name), &status) != C.THOLE_OK {
		return said(&status)
	}
	return nil
}

// Use is what one GPU of the ledger has and holds.
type Use struct {
	Node, UUID, Model        string
	Holders                  uint32
	MemoryMiB, FreeMemoryMiB uint64
	FreeShareMilli           uint32
	Overcommitted            bool
}

// Usage answers every GPU, in the order of nodes and GPUs, and the ledger's revision.
func (c *Core) Usage(now time.Time) ([]Use, uint64, error) {
	var a arena
	defer a.release()
	query := C.thole_gang_query{struct_size: C.sizeof_thole_gang_query, now_ns: C.int64_t(now.UnixNano())}
	usage := C.thole_usage{struct_size: C.sizeof_thole_usage}
	err := a.call(blockSize, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.gang_usage(c.root, c.handle, &query, &usage, room, status)
	})
	if err != nil {
		return nil, 0, err
	}
	var out []Use
	for _, g := range elements[C.thole_gpu_use](usage.gpus) {
		out = append(out, Use{text(g.node), text(g.uuid), text(g.model), uint32(g.holders), uint64(g.memory_mib),
			uint64(g.free_memory_mib), uint32(g.free_share_milli), g.flags&C.THOLE_GPU_OVERCOMMITTED != 0})
	}
	return out, uint64(usage.revision), nil
}
