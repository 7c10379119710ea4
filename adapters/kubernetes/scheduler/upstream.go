package scheduler

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/discovery"
	schedulinglisters "k8s.io/client-go/listers/scheduling/v1alpha2"
	fwk "k8s.io/kube-scheduler/framework"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
)

// Kubernetes' own gangs (KEP-4671), as 1.36 has them: pods name a PodGroup of scheduling.k8s.io/v1alpha2 in
// spec.schedulingGroup. Where the gates are on, the framework goes through a group twice: a rehearsal for all of its pods,
// which it always takes back, and then the real thing for each. The plan is made in the rehearsal and outlives it.

// upstreamGroups are these PodGroups, where the cluster serves them.
type upstreamGroups struct {
	lister schedulinglisters.PodGroupLister
	levels []gang.Level
}

var upstreamResource = schema.GroupVersionResource{Group: "scheduling.k8s.io", Version: "v1alpha2", Resource: "podgroups"}

func servedUpstream(client *discovery.DiscoveryClient, handle fwk.Handle, levels []gang.Level) *upstreamGroups {
	if !serves(client, upstreamResource) {
		return &upstreamGroups{}
	}
	return &upstreamGroups{handle.SharedInformerFactory().Scheduling().V1alpha2().PodGroups().Lister(), levels}
}

func (g *upstreamGroups) served() bool { return g.lister != nil }

func (g *upstreamGroups) of(key gang.Key) (needs, error) {
	if !g.served() {
		return needs{}, fmt.Errorf("GangUnknown: the cluster does not serve %s in the version %s: this scheduler reads no other", upstreamResource.GroupResource(), upstreamResource.Version)
	}
	group, err := g.lister.PodGroups(key.Namespace).Get(key.Name)
	if err != nil {
		return needs{}, fmt.Errorf("GangUnknown: PodGroup %s is not there yet", key)
	}
	out := needs{least: 1}
	if policy := group.Spec.SchedulingPolicy.Gang; policy != nil {
		out.least = int(policy.MinCount)
	}
	if constraints := group.Spec.SchedulingConstraints; constraints != nil {
		for _, t := range constraints.Topology {
			level := g.levelOf(t.Key)
			if level == "" {
				return needs{}, fmt.Errorf("RequestBad: PodGroup %s wants its pods in one %s, which is none of the scheduler's `levels`: add it to the arguments of plugin %s", key, t.Key, Name)
			}
			out.topology = append(out.topology, core.Topology{Level: level, Required: true})
		}
	}
	return out, nil
}

// levelOf answers the name of the level whose label this is.
func (g *upstreamGroups) levelOf(label string) string {
	for _, l := range g.levels {
		if l.Label == label {
			return l.Name
		}
	}
	return ""
}

// GeneratePlacements places the whole group before the framework assumes any of its pods, and answers the nodes of the plan.
// In-tree, pods are taken one by one in a fixed order: of {8192, 4096} MiB on nodes of as much, the wrong one may come first.
func (p *Plugin) GeneratePlacements(ctx context.Context, _ fwk.PodGroupCycleState, group fwk.PodGroupInfo, parent *fwk.Placement) (*fwk.GeneratePlacementsResult, *fwk.Status) {
	nodes := sets.New[string]()
	var first *fwk.Status
	for _, pod := range group.GetUnscheduledPods() {
		result, status := p.PreFilter(ctx, nil, pod, nil)
		switch {
		case status.IsSuccess():
			nodes = nodes.Union(result.NodeNames)
		case status.IsSkip(): // nothing of ours: every node will do
			return &fwk.GeneratePlacementsResult{Placements: []*fwk.Placement{parent}}, nil
		case first == nil:
			first = status
		}
	}
	if nodes.Len() == 0 {
		return nil, first
	}
	placement := &fwk.Placement{Name: "thole"}
	for _, info := range parent.Nodes {
		if nodes.Has(info.Node().Name) {
			placement.Nodes = append(placement.Nodes, info)
		}
	}
	return &fwk.GeneratePlacementsResult{Placements: []*fwk.Placement{placement}}, nil
}

// rehearse is Permit in a rehearsal: a group can be scheduled if the last of its batch gets here.
func (p *Plugin) rehearse(pod *v1.Pod, node string) *fwk.Status {
	b := p.book
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.seats[pod.UID]
	if s == nil || s.placement.Node != node {
		return fwk.NewStatus(fwk.Unschedulable, "PlanStale: the plan of the pod's gang is gone; it is placed again")
	}
	s.permitted = true
	for _, other := range s.batch.seats {
		if !other.permitted && !other.bound {
			return fwk.NewStatus(fwk.Wait)
		}
	}
	return nil
}

// rehearsed is Unreserve in a rehearsal: the seat stays, and Permit counts anew.
func (b *book) rehearsed(pod *v1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.seats[pod.UID]; s != nil {
		s.permitted = false
	}
}
