package core

// #include "calls.h"
import "C"

// Note is something that a person should know about their file.
type Note struct {
	Line, Column           uint32 // 1 is the first; 0 where there is no place
	Field, Reason, Message string
	Error                  bool // the file is refused; else a remark
}

// Document is a job file or a pool file that was read.
type Document struct {
	Kind, Name string
	JSON       string // canonical, with every default filled in; empty if there is an error
	Notes      []Note // in the order of the file
}

// ReadDocument reads a TrainingJob or a NodePool (YAML or JSON) as one platform does. A file that is refused answers the
// document with its notes and the first error as *Error.
func (c *Core) ReadDocument(file, platform string) (*Document, error) {
	var a arena
	defer a.release()
	d := C.thole_document{struct_size: C.sizeof_thole_document}
	given, on := a.text(file), a.text(platform)
	err := a.call(blockSize, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.job_read(c.root, c.handle, given, on, &d, room, status)
	})
	out := &Document{Kind: text(d.kind), Name: text(d.name), JSON: text(d.json)}
	for _, n := range elements[C.thole_note](d.notes) {
		out.Notes = append(out.Notes, Note{uint32(n.line), uint32(n.column), text(n.field), text(n.reason), text(n.message), n.error != 0})
	}
	return out, err
}

// RequestOf answers the gang request of a canonical TrainingJob.
func (c *Core) RequestOf(jobJSON string, gang ID) (*Request, error) {
	var a arena
	defer a.release()
	r := C.thole_gang_request{struct_size: C.sizeof_thole_gang_request}
	id, job := C.thole_id{hi: C.uint64_t(gang.Hi), lo: C.uint64_t(gang.Lo)}, a.text(jobJSON)
	err := a.call(blockSize, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.job_gang(c.root, c.handle, job, id, &r, room, status)
	})
	if err != nil {
		return nil, err
	}
	out := &Request{Gang: gang, Topology: topologyOf(r.topology)}
	for _, from := range elements[C.thole_role](r.roles) {
		out.Roles = append(out.Roles, Role{Name: text(from.name), Members: uint32(from.members), MinMembers: uint32(from.min_members),
			RanksPerMember: uint32(from.ranks_per_member), Kind: Kind(from.device_kind), Devices: uint32(from.devices),
			ShareMilli: uint32(from.vgpu_share_milli), VGPUMemoryMiB: uint64(from.vgpu_memory_mib), MIGProfile: text(from.mig_profile),
			GPUModel: text(from.gpu_model), CPUMilli: uint64(from.cpu_milli), MemoryMiB: uint64(from.memory_mib),
			Topology: topologyOf(from.topology)})
	}
	return out, nil
}

func topologyOf(list C.thole_list) []Topology {
	var out []Topology
	for _, t := range elements[C.thole_topology](list) {
		out = append(out, Topology{text(t.level), t.mode == C.THOLE_TOPOLOGY_REQUIRED})
	}
	return out
}

// NodesOf answers the levels and the nodes of a canonical NodePool. Where the pool is not simulated, gpus are what the
// machine has, and they become one node of the given name.
func (c *Core) NodesOf(poolJSON, node string, gpus []GPU) (levels []string, nodes []Node, err error) {
	var a arena
	defer a.release()
	var levelList, nodeList C.thole_list
	pool, name, list := a.text(poolJSON), a.text(node), a.gpus(gpus)
	err = a.call(blockSize, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.job_nodes(c.root, c.handle, pool, name, &list, &levelList, &nodeList, room, status)
	})
	if err != nil {
		return nil, nil, err
	}
	for _, n := range elements[C.thole_node](nodeList) {
		nodes = append(nodes, nodeOf(n))
	}
	return texts(levelList), nodes, nil
}

func nodeOf(n *C.thole_node) Node {
	out := Node{Name: text(n.name), Domains: texts(n.domains), CPUMilli: uint64(n.cpu_milli), MemoryMiB: uint64(n.memory_mib),
		Cordoned: n.flags&C.THOLE_NODE_CORDONED != 0}
	for _, g := range elements[C.thole_gpu](n.gpus) {
		to := GPU{UUID: text(g.uuid), Model: text(g.model), MemoryMiB: uint64(g.memory_mib), ContextMiB: uint64(g.context_mib),
			MaxVGPUs: uint32(g.max_vgpus), Simulated: g.flags&C.THOLE_GPU_SIMULATED != 0,
			Unhealthy: g.flags&C.THOLE_GPU_UNHEALTHY != 0, InMIGMode: g.flags&C.THOLE_GPU_MIG != 0}
		for _, p := range elements[C.thole_mig_profile](g.mig) {
			profile := MIGProfile{Name: text(p.name), MemoryMiB: uint64(p.memory_mib), Count: uint32(p.count), ShareMilli: uint32(p.share_milli)}
			for _, at := range elements[C.thole_mig_place](p.placements) {
				profile.Places = append(profile.Places, [2]uint32{uint32(at.start), uint32(at.size)})
			}
			to.MIG = append(to.MIG, profile)
		}
		out.GPUs = append(out.GPUs, to)
	}
	return out
}

// Schema answers the JSON Schema of "TrainingJob" or "NodePool".
func (c *Core) Schema(kind string) (string, error) {
	var a arena
	defer a.release()
	var out C.thole_str
	of := a.text(kind)
	err := a.call(64<<10, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.job_schema(c.root, c.handle, of, &out, room, status)
	})
	if err != nil {
		return "", err
	}
	return text(out), nil
}
