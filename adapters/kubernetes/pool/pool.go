// Package pool gives the nodes of NodePools their GPUs and the capacity that follows: simulated ones by the controller, which
// knows them from the pool alone, and real ones by the agent of each node, which asks the driver.
package pool

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// pools reconciles NodePools.
type pools struct {
	client.Client
	core *core.Core
}

// Add lets a controller's process look after NodePools.
func Add(m ctrl.Manager, c *core.Core) error {
	ofPool := func(_ context.Context, node client.Object) []ctrl.Request {
		if pool := node.GetLabels()[names.Pool]; pool != "" {
			return []ctrl.Request{{NamespacedName: types.NamespacedName{Name: pool}}}
		}
		return nil
	}
	return ctrl.NewControllerManagedBy(m).For(&api.NodePool{}).Watches(&v1.Node{}, handler.EnqueueRequestsFromMapFunc(ofPool)).
		Complete(&pools{m.GetClient(), c})
}

// Reconcile looks at one pool and all nodes that carry its name.
func (r *pools) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
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
	spec, no := read(r.core, pool)
	s.Simulated = no == nil && spec.simulated
	condition := metav1.Condition{Type: api.Ready, Status: metav1.ConditionTrue, Reason: "Ready", ObservedGeneration: pool.Generation}
	var failed error
	switch {
	case s.Simulated:
		var gpus []core.GPU
		if gpus, no = spec.gpusOf(pool.Name, nil); no == nil {
			failed = r.simulate(ctx, s, nodes.Items, gpus)
			condition.Message = fmt.Sprintf("%d nodes with %d simulated GPUs", s.Nodes, s.GPUs)
		}
	case no == nil:
		no = count(s, nodes.Items)
		condition.Message = fmt.Sprintf("%d nodes with %d GPUs", s.Nodes, s.GPUs)
	}
	if no != nil {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, no.Reason, no.Message
	}
	if no != nil && (s.Simulated || !spec.known()) {
		for i := range nodes.Items { // what it cannot be is zero
			failed = errors.Join(failed, write(ctx, r.Client, &nodes.Items[i], nil, no.Error()))
		}
	}
	meta.SetStatusCondition(&s.Conditions, condition)
	if !reflect.DeepEqual(before.Status, pool.Status) {
		failed = errors.Join(failed, client.IgnoreNotFound(r.Status().Update(ctx, pool)))
	}
	if apierrors.IsConflict(failed) {
		return ctrl.Result{RequeueAfter: 50 * time.Millisecond}, nil // somebody else was first: look again
	}
	return ctrl.Result{}, failed
}

// simulate gives every node the pool's GPUs, under names that no other node's have.
func (r *pools) simulate(ctx context.Context, s *api.PoolStatus, nodes []v1.Node, gpus []core.GPU) (failed error) {
	for i := range nodes {
		list := append([]core.GPU{}, gpus...)
		for n := range list {
			sum := sha256.Sum256(fmt.Append(nil, nodes[i].Name, "/", n))
			list[n].UUID = "SIM-" + hex.EncodeToString(sum[:16])
		}
		if err := write(ctx, r.Client, &nodes[i], list, ""); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		s.GPUs += int32(len(list))
	}
	return failed
}

// count takes into the status what the nodes' agents have found; the first node that has none is why the pool is not ready.
func count(s *api.PoolStatus, nodes []v1.Node) (no *core.Error) {
	for i := range nodes {
		text, found := nodes[i].Annotations[names.GPUs]
		why := nodes[i].Annotations[names.DeviceReason]
		var gpus []json.RawMessage
		if err := json.Unmarshal([]byte(text), &gpus); err != nil && found {
			why = "the annotation " + names.GPUs + " cannot be read"
		}
		s.GPUs += int32(len(gpus))
		switch {
		case no != nil:
		case !found:
			no = &core.Error{Reason: "NoNodeAgent", Message: "node " + nodes[i].Name + ": no thole-node has said what GPUs it has: is its pod running?"}
		case why != "":
			no = &core.Error{Reason: "NoDevices", Message: "node " + nodes[i].Name + ": " + why}
		}
	}
	return no
}

// spec is a pool that was read.
type spec struct {
	core      *core.Core
	document  string
	simulated bool
}

func (s spec) known() bool { return s.document != "" }

// read reads a pool; what is wrong with it is one sentence.
func read(c *core.Core, pool *api.NodePool) (spec, *core.Error) {
	file, err := json.Marshal(map[string]any{"apiVersion": api.GroupVersion.String(), "kind": "NodePool",
		"metadata": map[string]any{"name": pool.Name}, "spec": json.RawMessage(pool.Spec.Raw)})
	if err != nil {
		return spec{}, &core.Error{Reason: "RequestBad", Message: err.Error()}
	}
	document, err := c.ReadDocument(string(file), "kubernetes")
	var said *core.Error
	if errors.As(err, &said) {
		return spec{}, &core.Error{Reason: said.Reason, Message: document.Sentence(said)}
	}
	var head struct{ Spec struct{ Simulated bool } }
	if err := json.Unmarshal([]byte(document.JSON), &head); err != nil {
		return spec{}, &core.Error{Reason: "RequestBad", Message: err.Error()}
	}
	return spec{c, document.JSON, head.Spec.Simulated}, nil
}

// gpusOf answers the GPUs of one node of the pool: simulated ones, or those that were found, as the pool has them used.
func (s spec) gpusOf(node string, found []core.GPU) ([]core.GPU, *core.Error) {
	_, nodes, err := s.core.NodesOf(s.document, node, found)
	var said *core.Error
	if errors.As(err, &said) {
		return nil, said
	}
	if err != nil || len(nodes) == 0 {
		return nil, &core.Error{Reason: "RequestBad", Message: fmt.Sprint("the pool has no nodes: ", err)}
	}
	return nodes[0].GPUs, nil
}
