package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
	"thole.dev/kubernetes/names"
)

// Pools reconciles NodePools: their nodes get the GPUs that the pool simulates, and the capacity that follows.
type Pools struct {
	client.Client
	Core *core.Core
}

const noAgent = "NoNodeAgent"

// Reconcile looks at one pool and all nodes that carry its name.
func (r *Pools) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	pool := &api.NodePool{}
	if err := r.Get(ctx, request.NamespacedName, pool); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := pool.DeepCopyObject().(*api.NodePool)
	var nodes v1.NodeList
	if err := r.List(ctx, &nodes, client.MatchingLabels{names.Pool: pool.Name}); err != nil {
		return ctrl.Result{}, err
	}
	s := &pool.Status
	s.ObservedGeneration, s.Nodes, s.GPUs = pool.Generation, int32(len(nodes.Items)), 0
	condition := metav1.Condition{Type: api.Ready, Status: metav1.ConditionTrue, Reason: "Ready", ObservedGeneration: pool.Generation}
	gpus, no := r.gpusOf(pool)
	s.Simulated = no == nil
	var failed error
	for i := range nodes.Items {
		node := &nodes.Items[i]
		list := named(gpus, node.Name)
		why := ""
		if no != nil {
			why = no.Error()
		}
		if err := r.write(ctx, node, list, why); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		s.GPUs += int32(len(list))
	}
	condition.Message = fmt.Sprintf("%d nodes with %d simulated GPUs", s.Nodes, s.GPUs)
	if no != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, no.Reason, no.Message
	}
	meta.SetStatusCondition(&s.Conditions, condition)
	if !reflect.DeepEqual(before.Status, pool.Status) {
		failed = errors.Join(failed, client.IgnoreNotFound(r.Status().Update(ctx, pool)))
	}
	return ctrl.Result{}, failed
}

// gpusOf answers the GPUs of each of the pool's nodes.
func (r *Pools) gpusOf(pool *api.NodePool) ([]core.GPU, *refusal) {
	file, err := json.Marshal(map[string]any{"apiVersion": api.GroupVersion.String(), "kind": "NodePool",
		"metadata": map[string]any{"name": pool.Name}, "spec": json.RawMessage(pool.Spec.Raw)})
	if err != nil {
		return nil, &refusal{"RequestBad", err.Error()}
	}
	document, err := r.Core.ReadDocument(string(file), "kubernetes")
	var said *core.Error
	if errors.As(err, &said) {
		return nil, refused(document, said).(*refusal)
	}
	var spec struct{ Spec struct{ Simulated bool } }
	if json.Unmarshal([]byte(document.JSON), &spec) == nil && !spec.Spec.Simulated {
		return nil, &refusal{noAgent, "this version has no agent that finds the real GPUs of a node: only pools with `simulated: true` work"}
	}
	_, nodes, err := r.Core.NodesOf(document.JSON, pool.Name, nil)
	if errors.As(err, &said) {
		return nil, &refusal{said.Reason, said.Message}
	}
	if err != nil || len(nodes) == 0 {
		return nil, &refusal{"RequestBad", fmt.Sprint("the pool has no nodes: ", err)}
	}
	return nodes[0].GPUs, nil
}

// named gives simulated GPUs names that no other node's have.
func named(gpus []core.GPU, node string) []gang.GPU {
	var out []gang.GPU
	for i, g := range gpus {
		to := gang.GPU{UUID: fmt.Sprintf("SIM-%.32s", cause(fmt.Sprint(node, "/", i))), Model: g.Model, MemoryMiB: g.MemoryMiB, ContextMiB: g.ContextMiB,
			MaxVGPUs: g.MaxVGPUs, Simulated: g.Simulated, Unhealthy: g.Unhealthy, InMIGMode: g.InMIGMode}
		for _, p := range g.MIG {
			to.MIG = append(to.MIG, gang.MIGProfile{Profile: p.Name, MemoryMiB: p.MemoryMiB, Count: p.Count, ShareMilli: p.ShareMilli, Places: p.Places})
		}
		out = append(out, to)
	}
	return out
}

// write brings a node's annotations and capacity to what they are to be. A node that was made anew, or whose kubelet has begun
// anew, has lost its capacity: the kubelet sets resources that it does not know to zero.
func (r *Pools) write(ctx context.Context, node *v1.Node, gpus []gang.GPU, why string) error {
	text := []byte("[]")
	if gpus != nil {
		var err error
		if text, err = json.Marshal(gpus); err != nil {
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
		if err := r.Patch(ctx, node, client.MergeFrom(before)); err != nil {
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
	return client.IgnoreNotFound(r.Status().Patch(ctx, node, client.StrategicMergeFrom(before)))
}
