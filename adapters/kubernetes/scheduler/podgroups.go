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

// podGroups are the PodGroups of scheduling.x-k8s.io (scheduler-plugins), where the cluster serves them.
type podGroups struct{ lister cache.GenericLister }

var podGroupResource = schema.GroupVersionResource{Group: "scheduling.x-k8s.io", Version: "v1alpha1", Resource: "podgroups"}

// servedPodGroups asks the API server once: an informer for what it does not serve would never be in step.
func servedPodGroups(ctx context.Context, client *discovery.DiscoveryClient, config *rest.Config) (*podGroups, error) {
	if !serves(client, podGroupResource) {
		return &podGroups{}, nil
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

func (g *podGroups) of(key gang.Key) (needs, error) {
	if !g.served() {
		return needs{}, fmt.Errorf("GangUnknown: the cluster has no %s: install that CRD and restart the scheduler, or write the gang with our own label", podGroupResource.GroupResource())
	}
	object, err := g.lister.ByNamespace(key.Namespace).Get(key.Name)
	if err != nil {
		return needs{}, fmt.Errorf("GangUnknown: PodGroup %s is not there yet", key)
	}
	least, found, err := unstructured.NestedInt64(object.(*unstructured.Unstructured).Object, "spec", "minMember")
	if err != nil || !found || least < 1 {
		return needs{}, fmt.Errorf("RequestBad: PodGroup %s has no minMember of 1 or more", key)
	}
	return needs{least: int(least)}, nil
}
