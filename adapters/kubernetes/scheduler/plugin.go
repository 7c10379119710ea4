package scheduler

import (
	"context"
	"errors"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"thole.dev/kubernetes/gang"
	"thole.dev/kubernetes/names"
)

// Plugin is Thole in one profile of a scheduler.
type Plugin struct {
	handle fwk.Handle
	book   *book
	groups groups
	synced []cache.InformerSynced
}

var (
	_ fwk.PreEnqueuePlugin        = &Plugin{}
	_ fwk.EnqueueExtensions       = &Plugin{}
	_ fwk.PreFilterPlugin         = &Plugin{}
	_ fwk.FilterPlugin            = &Plugin{}
	_ fwk.PostFilterPlugin        = &Plugin{}
	_ fwk.ScorePlugin             = &Plugin{}
	_ fwk.ReservePlugin           = &Plugin{}
	_ fwk.PermitPlugin            = &Plugin{}
	_ fwk.BindPlugin              = &Plugin{}
	_ fwk.SignPlugin              = &Plugin{}
	_ fwk.PlacementGeneratePlugin = &Plugin{}
)

// Name answers the plugin's name.
func (p *Plugin) Name() string { return Name }

// PreEnqueue holds a member back until as many exist as its gang needs, so that nothing is tried in vain.
func (p *Plugin) PreEnqueue(_ context.Context, pod *v1.Pod) *fwk.Status {
	if !isManaged(pod) {
		return nil
	}
	err := p.book.gathered(pod)
	if err == nil {
		return nil
	}
	// The framework tells nobody why a pod is held back here, so an event does, once for each sentence.
	if p.book.tells(pod, err.Error()) {
		reason, sentence, found := strings.Cut(err.Error(), ": ")
		if !found || strings.ContainsAny(reason, " /") {
			reason, sentence = "RequestBad", err.Error()
		}
		p.handle.EventRecorder().Eventf(pod, nil, v1.EventTypeWarning, reason, "Scheduling", "%s", names.Brief(sentence, 1000))
	}
	return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, err.Error())
}

// EventsToRegister says what may make room for a pod that waits.
func (p *Plugin) EventsToRegister(context.Context) ([]fwk.ClusterEventWithHint, error) {
	events := []fwk.ClusterEventWithHint{
		{Event: fwk.ClusterEvent{Resource: fwk.Pod, ActionType: fwk.Add | fwk.Delete | fwk.UpdatePodLabel | fwk.UpdatePodScaleDown |
			fwk.UpdatePodSchedulingGatesEliminated}, QueueingHintFn: p.whenAPod},
		{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: fwk.Add | fwk.UpdateNodeAllocatable | fwk.UpdateNodeLabel |
			fwk.UpdateNodeTaint | fwk.UpdateNodeAnnotation}, QueueingHintFn: p.whenANode},
	}
	for _, resource := range p.groups.resources() {
		events = append(events, fwk.ClusterEventWithHint{Event: fwk.ClusterEvent{Resource: resource, ActionType: fwk.Add | fwk.Update}})
	}
	return events, nil
}

// The hints below are asked by the scheduler's own handler of an event, which may be ahead of ours: the pod would be tried on
// the book of before, and nothing would try it again. So the book takes the event in first; to take it in twice does no harm.

// whenAPod: a member of the same gang comes, or a pod that lay on a node ends or shrinks.
func (p *Plugin) whenAPod(_ klog.Logger, waiting *v1.Pod, before, after any) (fwk.QueueingHint, error) {
	if pod, ok := after.(*v1.Pod); ok && pod.Spec.NodeName == "" {
		if gang.KeyOf(pod) == gang.KeyOf(waiting) {
			return fwk.Queue, nil
		}
		return fwk.QueueSkip, nil
	}
	if pod, ok := before.(*v1.Pod); ok && pod.Spec.NodeName != "" {
		if after == nil {
			reject(p.handle, p.book.goneAhead(pod))
		}
		return fwk.Queue, nil
	}
	return fwk.QueueSkip, nil
}

// whenANode: a node comes, grows or opens.
func (p *Plugin) whenANode(_ klog.Logger, _ *v1.Pod, _, after any) (fwk.QueueingHint, error) {
	if node, ok := after.(*v1.Node); ok {
		p.book.nodeCame(node)
	}
	return fwk.Queue, nil
}

// PreFilter places the pod's whole gang, or looks its place up.
func (p *Plugin) PreFilter(ctx context.Context, _ fwk.CycleState, pod *v1.Pod, _ []fwk.NodeInfo) (*fwk.PreFilterResult, *fwk.Status) {
	if !isManaged(pod) {
		return nil, fwk.NewStatus(fwk.Skip)
	}
	// What runs already must be in the ledger before anything is placed.
	if !cache.WaitForCacheSync(ctx.Done(), p.synced...) {
		return nil, fwk.AsStatus(errors.New("the nodes and pods of the cluster are not known yet"))
	}
	node, wake, err := p.book.place(pod)
	if len(wake) > 0 {
		pods := map[string]*v1.Pod{}
		for _, other := range wake {
			pods[klog.KObj(other).String()] = other
		}
		p.handle.Activate(klog.FromContext(ctx), pods)
	}
	if err != nil {
		code := fwk.Unschedulable
		var r *refusal
		if errors.As(err, &r) && r.hopeless {
			code = fwk.UnschedulableAndUnresolvable
		}
		return nil, fwk.NewStatus(code, err.Error())
	}
	return &fwk.PreFilterResult{NodeNames: sets.New(node)}, nil
}

// PreFilterExtensions answers nil: a pod's place does not depend on which others are imagined away.
func (p *Plugin) PreFilterExtensions() fwk.PreFilterExtensions { return nil }

// Filter is a look-up: PreFilter has named the one node.
func (p *Plugin) Filter(_ context.Context, _ fwk.CycleState, pod *v1.Pod, info fwk.NodeInfo) *fwk.Status {
	if node := p.book.nodeOf(pod.UID); node != info.Node().Name {
		return fwk.NewStatus(fwk.Unschedulable, "the gang is placed on other nodes")
	}
	return nil
}

// afterAnother: where another plugin has refused, the queue asks that one which events may help, and not ours. It may try the gang on
// an event that the book has not taken in yet, and nothing would try it again: once more when the book has.
const afterAnother = time.Second

// PostFilter: another plugin refuses the planned node, or there is no plan. Nobody is preempted for one member of a gang: the profile
// puts it before kube-scheduler's own preemption, which goes on only with pods that are none of ours. Its reason
// follows the refusal's in the pod's condition.
func (p *Plugin) PostFilter(_ context.Context, _ fwk.CycleState, pod *v1.Pod, _ fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	if !isManaged(pod) {
		return nil, fwk.NewStatus(fwk.Unschedulable)
	}
	node, freed := p.book.refusedThere(pod, p.seen)
	if node == "" {
		return nil, fwk.NewStatus(fwk.UnschedulableAndUnresolvable, names.PreemptsNobody)
	}
	reject(p.handle, freed)
	time.AfterFunc(afterAnother, func() { p.handle.Activate(klog.Background(), p.book.again(pod)) })
	return nil, fwk.NewStatus(fwk.UnschedulableAndUnresolvable,
		"Thole planned the gang with "+node+", which another plugin refuses: its place is given back, and it is planned anew.")
}

// seen is a node as the cycle that runs looks at it; nil if it does not know the node yet.
func (p *Plugin) seen(node string) *v1.Node {
	info, err := p.handle.SnapshotSharedLister().NodeInfos().Get(node)
	if err != nil {
		return nil
	}
	return info.Node()
}

// Score is the same for all nodes: there is one.
func (p *Plugin) Score(context.Context, fwk.CycleState, *v1.Pod, fwk.NodeInfo) (int64, *fwk.Status) {
	return 0, nil
}

// ScoreExtensions answers nil: nothing is normalised.
func (p *Plugin) ScoreExtensions() fwk.ScoreExtensions { return nil }

// Reserve counts what a pod takes that is not the ledger's: the API server will tell of it only when it is bound.
func (p *Plugin) Reserve(_ context.Context, _ fwk.CycleState, pod *v1.Pod, node string) *fwk.Status {
	if !isManaged(pod) {
		p.book.locked(func() { p.book.addForeign(pod, node, false) })
		return nil
	}
	if p.book.nodeOf(pod.UID) != node {
		return fwk.NewStatus(fwk.Unschedulable, "PlanStale: the plan of the pod's gang is gone; it is placed again")
	}
	return nil
}

// Unreserve: the pod did not get through. Its siblings are released at once.
func (p *Plugin) Unreserve(_ context.Context, state fwk.CycleState, pod *v1.Pod, _ string) {
	if state.IsPodGroupSchedulingCycle() && isManaged(pod) {
		p.book.rehearsed(pod)
		return
	}
	reject(p.handle, p.book.unreserve(pod))
}

// Permit waits until all members that were placed together have got here; the last one lets them go.
func (p *Plugin) Permit(_ context.Context, state fwk.CycleState, pod *v1.Pod, node string) (*fwk.Status, time.Duration) {
	if !isManaged(pod) {
		return nil, 0
	}
	if state.IsPodGroupSchedulingCycle() {
		return p.rehearse(pod, node), 0
	}
	all, left, err := p.book.permit(pod, node)
	if err != nil {
		return fwk.NewStatus(fwk.Unschedulable, err.Error()), 0
	}
	if all == nil {
		return fwk.NewStatus(fwk.Wait), left
	}
	for _, uid := range all {
		if waiting := p.handle.GetWaitingPod(uid); waiting != nil && uid != pod.UID {
			waiting.Allow(Name)
		}
	}
	return nil, 0
}

// Bind binds the pod and writes its allocation on it in one write of the API server, which copies a binding's annotations: no
// pod is ever bound without its allocation, and a gang costs no more writes than its pods do.
func (p *Plugin) Bind(ctx context.Context, _ fwk.CycleState, pod *v1.Pod, node string) *fwk.Status {
	if !isManaged(pod) {
		return fwk.NewStatus(fwk.Skip)
	}
	allocation, err := p.book.allocation(pod)
	if err != nil {
		return fwk.AsStatus(err)
	}
	annotations, err := allocation.Annotations(pod, p.book.core.Core)
	if err != nil {
		return fwk.AsStatus(err)
	}
	binding := &v1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Annotations: annotations},
		Target: v1.ObjectReference{Kind: "Node", Name: node}}
	if cacher := p.handle.APICacher(); cacher != nil {
		done, err := cacher.BindPod(binding)
		if err == nil {
			err = cacher.WaitOnFinish(ctx, done)
		}
		return statusOf(err)
	}
	return statusOf(p.handle.ClientSet().CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{}))
}

func statusOf(err error) *fwk.Status {
	if err == nil {
		return nil
	}
	return fwk.AsStatus(err)
}

// SignPod: a member's place depends on its siblings, so no result of it can be used for another pod.
func (p *Plugin) SignPod(_ context.Context, pod *v1.Pod) ([]fwk.SignFragment, *fwk.Status) {
	if isManaged(pod) {
		return nil, fwk.NewStatus(fwk.Unschedulable, "a gang is placed as one")
	}
	return nil, nil
}

func (b *book) nodeOf(uid types.UID) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.seats[uid]; s != nil {
		return s.placement.Node
	}
	return ""
}
