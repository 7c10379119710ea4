package pool

import (
	"context"
	"errors"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// Agent is what runs on each node of a pool that is not simulated: it asks a device plugin what GPUs are there.
type Agent struct {
	client.Client
	Core    *core.Core
	Node    string        // the one that it is on
	Plugin  string        // "thole.device.nvml"
	Options string        // the plugin's own, JSON
	Every   time.Duration // between two looks: a driver may fail and come back without any event
}

// Add lets the agent follow its node and the pools. The manager's cache is to hold no other node.
func (a *Agent) Add(m ctrl.Manager) error {
	own := func(context.Context, client.Object) []ctrl.Request {
		return []ctrl.Request{{NamespacedName: types.NamespacedName{Name: a.Node}}}
	}
	return ctrl.NewControllerManagedBy(m).Named("node").For(&v1.Node{}).Watches(&api.NodePool{}, handler.EnqueueRequestsFromMapFunc(own)).Complete(a)
}

// Reconcile brings the node to what the driver says. A node object that was made anew has lost all of it and gets it again.
func (a *Agent) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	again := ctrl.Result{RequeueAfter: a.Every}
	node, pool := &v1.Node{}, &api.NodePool{}
	if err := a.Get(ctx, client.ObjectKey{Name: a.Node}, node); err != nil {
		return again, client.IgnoreNotFound(err)
	}
	name := node.Labels[names.Pool]
	if name == "" {
		return again, nil // of no pool: nothing of it is ours
	}
	err := a.Get(ctx, client.ObjectKey{Name: name}, pool)
	if apierrors.IsNotFound(err) {
		return again, write(ctx, a.Client, node, nil, "PoolUnknown: NodePool "+name+" is not there yet")
	}
	if err != nil {
		return again, err
	}
	spec, no := read(a.Core, pool)
	if no != nil || spec.simulated {
		return again, nil // the controller's
	}
	gpus, err := a.found(spec)
	why := ""
	if err != nil {
		why = err.Error()
		if node.Annotations[names.DeviceReason] != why {
			klog.ErrorS(err, "The node's capacity is zero")
		}
	}
	return again, write(ctx, a.Client, node, gpus, why)
}

func (a *Agent) found(s spec) ([]core.GPU, error) {
	gpus, err := a.Core.Devices(a.Plugin, a.Options)
	if err != nil {
		return nil, err
	}
	if len(gpus) == 0 {
		return nil, errors.New("NoDevices: the driver knows no GPU on this node")
	}
	used, no := s.gpusOf(a.Node, gpus)
	if no != nil {
		return nil, no
	}
	return used, nil
}
