package gang

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// GPU is how a node's GPU stands in the annotation names.GPUs.
type GPU struct {
	UUID       string       `json:"uuid"`
	Model      string       `json:"model"`
	MemoryMiB  uint64       `json:"memoryMiB"`
	ContextMiB uint64       `json:"contextMiB,omitempty"`
	MaxVGPUs   uint32       `json:"maxVgpus,omitempty"`
	Simulated  bool         `json:"simulated,omitempty"`
	Unhealthy  bool         `json:"unhealthy,omitempty"`
	InMIGMode  bool         `json:"migMode,omitempty"`
	MIG        []MIGProfile `json:"mig,omitempty"`
}

// MIGProfile is a profile that the GPU offers; Places are first memory slice and number of slices.
type MIGProfile struct {
	Profile    string      `json:"profile"`
	MemoryMiB  uint64      `json:"memoryMiB"`
	Count      uint32      `json:"count"`
	ShareMilli uint32      `json:"shareMilli"`
	Places     [][2]uint32 `json:"places"`
}

// GPUsOf reads a node's GPUs; a node without the annotation has none.
func GPUsOf(node *v1.Node) ([]core.GPU, error) {
	text := node.Annotations[names.GPUs]
	if text == "" {
		return nil, nil
	}
	var gpus []GPU
	if err := json.Unmarshal([]byte(text), &gpus); err != nil {
		return nil, fmt.Errorf("annotation %s of node %s cannot be read (%w): the node counts as one without GPUs", names.GPUs, node.Name, err)
	}
	out := make([]core.GPU, len(gpus))
	for i, g := range gpus {
		out[i] = core.GPU{UUID: g.UUID, Model: g.Model, MemoryMiB: g.MemoryMiB, ContextMiB: g.ContextMiB, MaxVGPUs: g.MaxVGPUs,
			Simulated: g.Simulated, Unhealthy: g.Unhealthy, InMIGMode: g.InMIGMode}
		for _, p := range g.MIG {
			out[i].MIG = append(out[i].MIG, core.MIGProfile{Name: p.Profile, MemoryMiB: p.MemoryMiB, Count: p.Count, ShareMilli: p.ShareMilli,
				Places: p.Places})
		}
	}
	return out, nil
}

// Level is a level of the topology, and the label of nodes that says their domain at it.
type Level struct {
	Name  string `json:"name"`
	Label string `json:"label"`
}

// unlabelled is the domain of nodes that do not say theirs: they lie together, apart from the others.
const unlabelled = "(no label)"

// DomainsOf answers the node's domain at each level.
func DomainsOf(node *v1.Node, levels []Level) []string {
	out := make([]string, len(levels))
	for i, l := range levels {
		if out[i] = node.Labels[l.Label]; out[i] == "" {
			out[i] = unlabelled
		}
	}
	return out
}
