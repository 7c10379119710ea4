package scheduler

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"thole.dev/kubernetes/gang"
)

// sizes answers how many members a gang needs that is written as an object.
type sizes interface {
	of(key gang.Key) (int, error)
}

// podGroups are the PodGroups of scheduling.x-k8s.io (scheduler-plugins), where the cluster serves them.
type podGroups struct{ lister cache.GenericLister }

var podGroupResource = schema.GroupVersionResource{Group: "scheduling.x-k8s.io", Version: "v1alpha1", Resource: "podgroups"}

// servedPodGroups asks the API server once: an informer for what it does not serve would never be in step.
func servedPodGroups(ctx context.Context, config *rest.Config) (*podGroups, error) {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json" // custom resources have no protobuf
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	list, err := client.ServerResourcesForGroupVersion(podGroupResource.GroupVersion().String())
	if err != nil || len(list.APIResources) == 0 {
		return &podGroups{}, nil //nolint:nilerr // not served: gangs are written on pods only
	}
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(dynamicClient, 0)
	out := &podGroups{factory.ForResource(podGroupResource).Lister()}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return out, nil
}

func (g *podGroups) served() bool { return g.lister != nil }

func (g *podGroups) of(key gang.Key) (int, error) {
	if !g.served() {
		return 0, fmt.Errorf("GangUnknown: the cluster has no %s: install that CRD and restart the scheduler, or write the gang with our own label", podGroupResource.GroupResource())
	}
	object, err := g.lister.ByNamespace(key.Namespace).Get(key.Name)
	if err != nil {
		return 0, fmt.Errorf("GangUnknown: PodGroup %s is not there yet", key)
	}
	least, found, err := unstructured.NestedInt64(object.(*unstructured.Unstructured).Object, "spec", "minMember")
	if err != nil || !found || least < 1 {
		return 0, fmt.Errorf("RequestBad: PodGroup %s has no minMember of 1 or more", key)
	}
	return int(least), nil
}
