package controller

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// Add lets a controller's process follow jobs and what belongs to them.
func Add(m ctrl.Manager, c *core.Core, images Images) error {
	asker := newAsker(m.GetClient())
	jobs := &Jobs{Client: m.GetClient(), Live: m.GetAPIReader(), Core: c, Events: m.GetEventRecorder("thole-controller"), Images: images, Asker: asker}
	// Pods of a node that is lost belong to jobs that must hear of it.
	ofNode := func(ctx context.Context, node client.Object) []ctrl.Request {
		var pods v1.PodList
		if err := m.GetClient().List(ctx, &pods, client.MatchingFields{nodeField: node.GetName()}, client.HasLabels{names.Job}); err != nil {
			return nil
		}
		var out []ctrl.Request
		for _, p := range pods.Items {
			out = append(out, ctrl.Request{NamespacedName: types.NamespacedName{Namespace: p.Namespace, Name: p.Labels[names.Job]}})
		}
		return out
	}
	if err := m.GetFieldIndexer().IndexField(context.Background(), &v1.Pod{}, nodeField, func(o client.Object) []string {
		return []string{o.(*v1.Pod).Spec.NodeName}
	}); err != nil {
		return err
	}
	if err := m.GetFieldIndexer().IndexField(context.Background(), &v1.Pod{}, progressField, progressKeyOf); err != nil {
		return err
	}
	if err := m.Add(asker); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(m).For(&api.TrainingJob{}).Owns(&v1.Pod{}).
		Watches(&v1.Node{}, handler.EnqueueRequestsFromMapFunc(ofNode)).
		WatchesRawSource(source.Channel(asker.news, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).Complete(jobs)
}

const nodeField = "spec.nodeName"
