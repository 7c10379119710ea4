package core

// #include "calls.h"
import "C"

import "strings"

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

// Sentence makes one sentence of all errors of a file that was refused: there is no line to name, so the field is named.
func (d *Document) Sentence(said *Error) string {
	var all []string
	for _, n := range d.Notes {
		if n.Error {
			all = append(all, strings.TrimPrefix(n.Field+": ", ": ")+n.Message)
		}
	}
	if len(all) == 0 {
		return said.Message
	}
	return strings.Join(all, "; ")
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
	out.GPUs = gpusOf(n.gpus)
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
