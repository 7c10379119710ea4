package pool

import (
	"context"
	"encoding/json"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
	"thole.dev/kubernetes/names"
)

// annotated is how GPUs stand in the annotation names.GPUs.
func annotated(gpus []core.GPU) []gang.GPU {
	var out []gang.GPU
	for _, g := range gpus {
		to := gang.GPU{UUID: g.UUID, Model: g.Model, MemoryMiB: g.MemoryMiB, ContextMiB: g.ContextMiB, MaxVGPUs: g.MaxVGPUs,
			Simulated: g.Simulated, Unhealthy: g.Unhealthy, InMIGMode: g.InMIGMode}
		for _, p := range g.MIG {
			to.MIG = append(to.MIG, gang.MIGProfile{Profile: p.Name, MemoryMiB: p.MemoryMiB, Count: p.Count, ShareMilli: p.ShareMilli, Places: p.Places})
		}
		out = append(out, to)
	}
	return out
}

// write brings a node's annotations and capacity to what they are to be. A node that was made anew, or whose kubelet has begun
// anew, has lost its capacity: the kubelet sets resources that it does not know to zero.
func write(ctx context.Context, c client.Client, node *v1.Node, gpus []core.GPU, why string) error {
	text := []byte("[]")
	if gpus != nil {
		var err error
		if text, err = json.Marshal(annotated(gpus)); err != nil {
			return err
		}
	}
	if node.Annotations[names.GPUs] != string(text) || node.Annotations[names.DeviceReason] != why {
		before := node.DeepCopy()
		if node.Annotations == nil {
			node.Annotations = map[string]string{}
		}
		node.Annotations[names.GPUs] = string(text)
		delete(node.Annotations, names.DeviceReason)
		if why != "" {
			node.Annotations[names.DeviceReason] = why
		}
		if err := c.Patch(ctx, node, client.MergeFrom(before)); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	memory, share := uint64(0), int64(0)
	for _, g := range gpus {
		memory += g.MemoryMiB
		share += 1000
	}
	want := v1.ResourceList{names.VGPUMemory: *resource.NewQuantity(int64(memory), resource.DecimalSI),
		names.VGPUShare: *resource.NewQuantity(share, resource.DecimalSI), names.GPU: *resource.NewQuantity(int64(len(gpus)), resource.DecimalSI)}
	before := node.DeepCopy()
	changed := false
	for _, list := range []*v1.ResourceList{&node.Status.Capacity, &node.Status.Allocatable} {
		if *list == nil {
			*list = v1.ResourceList{}
		}
		for name, quantity := range want {
			if have, found := (*list)[name]; !found || have.Cmp(quantity) != 0 {
				(*list)[name], changed = quantity, true
			}
		}
	}
	if !changed {
		return nil
	}
	return client.IgnoreNotFound(c.Status().Patch(ctx, node, client.StrategicMergeFrom(before)))
}
