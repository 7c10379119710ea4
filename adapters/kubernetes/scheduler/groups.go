package scheduler

import (
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	fwk "k8s.io/kube-scheduler/framework"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
)

// needs is what a gang needs as a whole.
type needs struct {
	least    int             // so many members, or none
	topology []core.Topology // where they lie to each other; what the pods say comes first
}

// groups are the ways of writing a gang as an object that the cluster serves.
type groups struct {
	podGroups *podGroups
	upstream  *upstreamGroups
}

// servedGroups asks the API server once: an informer for what it does not serve would never be in step.
func servedGroups(ctx context.Context, handle fwk.Handle, levels []gang.Level) (groups, error) {
	config := rest.CopyConfig(handle.KubeConfig())
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json" // custom resources have no protobuf
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return groups{}, err
	}
	ours, err := servedPodGroups(ctx, client, config)
	return groups{ours, servedUpstream(client, handle, levels)}, err
}

func serves(client *discovery.DiscoveryClient, resource schema.GroupVersionResource) bool {
	list, err := client.ServerResourcesForGroupVersion(resource.GroupVersion().String())
	return err == nil && slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource.Resource })
}

// resources are those whose coming and changing may let a gang be placed.
func (g groups) resources() []fwk.EventResource {
	var out []fwk.EventResource
	if g.podGroups.served() {
		out = append(out, "podgroups.v1alpha1.scheduling.x-k8s.io")
	}
	if g.upstream.served() {
		out = append(out, fwk.PodGroup)
	}
	return out
}

func (g groups) of(key gang.Key) (needs, error) {
	if key.Source == gang.Upstream {
		return g.upstream.of(key)
	}
	return g.podGroups.of(key)
}
