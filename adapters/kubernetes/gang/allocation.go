package gang

import (
	"encoding/json"
	"fmt"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// Allocation is what a pod holds, as the annotation names.Allocation says it: what the ledger is rebuilt from.
type Allocation struct {
	Gang       string       `json:"gang"` // the id in the ledger, 32 hexadecimal digits
	Generation uint64       `json:"generation"`
	Role       string       `json:"role"`
	RoleIndex  uint32       `json:"roleIndex"`
	Member     uint32       `json:"member"`
	FirstRank  uint32       `json:"firstRank"`
	Node       string       `json:"node"`
	Grants     []core.Grant `json:"grants"`
}

// AllocationOf reads what was written on a pod; nil if nothing was.
func AllocationOf(pod *v1.Pod) (*Allocation, error) {
	text := pod.Annotations[names.Allocation]
	if text == "" {
		return nil, nil
	}
	var a Allocation
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return nil, fmt.Errorf("annotation %s cannot be read: %w", names.Allocation, err)
	}
	if a.Node != pod.Spec.NodeName {
		return nil, fmt.Errorf("annotation %s is for node %s; the pod is on %s", names.Allocation, a.Node, pod.Spec.NodeName)
	}
	return &a, nil
}

// ID answers the gang's id.
func (a *Allocation) ID() (core.ID, error) {
	var id core.ID
	if len(a.Gang) != 32 {
		return id, fmt.Errorf("gang id %q has not 32 digits", a.Gang)
	}
	if _, err := fmt.Sscanf(a.Gang, "%016x%016x", &id.Hi, &id.Lo); err != nil {
		return id, fmt.Errorf("gang id %q: %w", a.Gang, err)
	}
	return id, nil
}

// Annotations are what the scheduler writes on a pod before it is bound.
func (a *Allocation) Annotations(pod *v1.Pod, c *core.Core) (map[string]string, error) {
	id, err := a.ID()
	if err != nil {
		return nil, err
	}
	attempt, err := strconv.ParseUint(pod.Labels[names.Attempt], 10, 64)
	if err != nil || attempt == 0 {
		attempt = 1
	}
	given, err := c.Assign(&core.Member{Gang: id, Attempt: attempt, Generation: a.Generation + 1, Role: a.Role,
		Placement: core.Placement{Role: a.RoleIndex, Member: a.Member, FirstRank: a.FirstRank, Node: a.Node, Grants: a.Grants}})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return map[string]string{names.Allocation: string(text), names.Record: given.Record,
		names.VisibleDevices: given.Environment["CUDA_VISIBLE_DEVICES"]}, nil
}
