package gang

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// Member is a pod with what it wants.
type Member struct {
	Pod    *v1.Pod
	Demand Demand
}

// MostRoles of a gang: pods with more different demands than this are no gang (THOLE_MAX_ROLES).
const MostRoles = 16

// Request is what the ledger is asked, and which pod each of its members is.
type Request struct {
	core.Request
	Pods [][]*v1.Pod // by role and member
}

// RequestOf makes one request of pods that are placed together: pods with equal demands become a role. least of the pods,
// in the order of roles, members and names, must find a place; the others may. A kind of pods of which none is among
// those is left out, and placed later.
func RequestOf(id core.ID, members []Member, least int) (*Request, error) {
	members = slices.Clone(members)
	slices.SortStableFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Pod.Labels[names.Role], b.Pod.Labels[names.Role]), cmp.Compare(index(a.Pod), index(b.Pod)),
			cmp.Compare(a.Pod.Name, b.Pod.Name), cmp.Compare(a.Pod.UID, b.Pod.UID))
	})
	out := &Request{Request: core.Request{Gang: id}}
	roles, used := map[Demand]int{}, map[string]bool{}
	for i, m := range members {
		at, known := roles[m.Demand]
		if !known {
			if i >= least {
				continue
			}
			if len(out.Roles) == MostRoles {
				return nil, fmt.Errorf("the pods of the gang ask for more than %d different things: make them more alike", MostRoles)
			}
			at = len(out.Roles)
			roles[m.Demand] = at
			out.Roles = append(out.Roles, role(m, used))
			out.Pods = append(out.Pods, nil)
		}
		out.Roles[at].Members++
		if i < least {
			out.Roles[at].MinMembers++
		}
		out.Pods[at] = append(out.Pods[at], m.Pod)
	}
	if len(members) > 0 {
		wishes, err := topologyOf(members[0].Pod.Annotations[names.Topology])
		if err != nil {
			return nil, err
		}
		out.Topology = wishes
	}
	return out, nil
}

// index is the pod's number in its role; pods without one come last, by name.
func index(pod *v1.Pod) uint64 {
	n, err := strconv.ParseUint(pod.Labels[names.Member], 10, 32)
	if err != nil {
		return 1 << 32
	}
	return n
}

func role(m Member, used map[string]bool) core.Role {
	name := cmp.Or(m.Pod.Labels[names.Role], "member")
	for n := 2; used[name]; n++ {
		name = fmt.Sprintf("%s-%d", cmp.Or(m.Pod.Labels[names.Role], "member"), n)
	}
	used[name] = true
	d := m.Demand
	wishes, _ := topologyOf(d.RoleTopology) // DemandOf has read it
	return core.Role{Name: name, Kind: d.Kind, Devices: d.Devices, ShareMilli: d.ShareMilli, VGPUMemoryMiB: d.VGPUMemoryMiB,
		GPUModel: d.GPUModel, CPUMilli: d.CPUMilli, MemoryMiB: d.MemoryMiB, Topology: wishes, Label: d.Label}
}
