package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// Jobs reconciles TrainingJobs.
type Jobs struct {
	client.Client
	Live   client.Reader // past the cache
	Core   *core.Core
	Events events.EventRecorder
	Images Images
	Asker  *asker
}

// soon is for what no event tells of.
const soon = time.Second

// refusedAgain is when a pod is offered again that the cluster does not take.
const refusedAgain = 10 * time.Second

// Reconcile brings one job a step further. The job is read past the cache: a status that is older than what was written
// would make an attempt's pods again.
func (r *Jobs) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &api.TrainingJob{ObjectMeta: metav1.ObjectMeta{Name: request.Name, Namespace: request.Namespace}}
	if err := r.Live.Get(ctx, request.NamespacedName, object); apierrors.IsNotFound(err) {
		return ctrl.Result{}, r.releaseOrphans(ctx, object)
	} else if err != nil {
		return ctrl.Result{}, err
	}
	before := object.DeepCopy()
	if object.DeletionTimestamp == nil && controllerutil.AddFinalizer(object, names.Finalizer) {
		return ctrl.Result{}, r.Patch(ctx, object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	}
	if object.DeletionTimestamp != nil && !controllerutil.ContainsFinalizer(object, names.Finalizer) {
		return ctrl.Result{}, nil
	}
	wait, err := r.advance(ctx, object)
	var no *refusal
	if errors.As(err, &no) {
		r.refuse(object, no)
		wait, err = 0, nil
	}
	object.Status.ObservedGeneration = object.Generation
	if err == nil {
		err = r.writeStatus(ctx, before, object)
	}
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: 50 * time.Millisecond}, nil // somebody else was first: look again
	}
	return ctrl.Result{RequeueAfter: wait}, err
}

func (r *Jobs) refuse(object *api.TrainingJob, no *refusal) {
	object.Status.Phase = api.Refused
	if setCondition(object, api.Accepted, false, no.Reason, no.Message) {
		r.tell(object, v1.EventTypeWarning, no.Reason, "Read", no.Message)
	}
}

// advance changes children, and the status in memory. What it answers is when to look again though nothing has happened.
func (r *Jobs) advance(ctx context.Context, object *api.TrainingJob) (time.Duration, error) {
	all, err := r.podsOf(ctx, object)
	if err == nil {
		err = r.releaseOrphans(ctx, object)
	}
	if err != nil {
		return 0, err
	}
	s := &object.Status
	if isOver(s.Phase) {
		return 0, r.leave(ctx, object, all)
	}
	if object.DeletionTimestamp != nil && s.Attempt == 0 {
		return 0, r.leave(ctx, object, all)
	}
	j, err := readJob(r.Core, object)
	if err != nil && object.DeletionTimestamp != nil {
		return 0, r.leave(ctx, object, all)
	}
	if err != nil {
		return 0, err
	}
	setCondition(object, api.Accepted, true, "Read", j.accepted())
	if s.Attempt == 0 {
		if err := j.check(object, r.Images); err != nil {
			return 0, err
		}
		// First the number, then the pods: whoever goes on after a crash finds it.
		s.Attempt, s.Phase, s.StartTime = 1, api.Waiting, of(metav1.Now())
		return time.Millisecond, nil
	}
	views, older, err := r.look(ctx, object, j, all)
	if err != nil {
		return 0, err
	}
	if s.Ending == nil {
		s.Ending = reasonToEnd(object, j, views)
		if s.Ending != nil {
			s.Phase = api.Recovering
			if !isFailure(s.Ending) {
				s.Phase = api.Stopping
			}
			// The reason is written before pods are ended for it: otherwise their end would look like one more incident.
			return time.Millisecond, nil
		}
	}
	if s.Ending != nil {
		return r.end(ctx, object, j, views)
	}
	if s.StartedAttempt < s.Attempt {
		return r.start(ctx, object, j, views, older)
	}
	return r.follow(ctx, object, j, views)
}

func isOver(phase string) bool {
	return phase == api.Complete || phase == api.Failed || phase == api.Stopped
}

// reasonToEnd the present attempt, or nil.
func reasonToEnd(object *api.TrainingJob, j *job, views []view) *api.Ending {
	if isStopAsked(object) {
		return &api.Ending{Kind: kindStop, Message: "asked to stop"}
	}
	if limit := time.Duration(j.Spec.TimeLimit); limit > 0 && time.Since(object.Status.StartTime.Time) > limit {
		return &api.Ending{Kind: kindTimeLimit, Message: fmt.Sprintf("the time limit of %v is over", limit)}
	}
	return trouble(views)
}

// look sorts the job's pods: those of the present attempt as views, and older ones.
func (r *Jobs) look(ctx context.Context, object *api.TrainingJob, j *job, all []v1.Pod) (views []view, older []*v1.Pod, err error) {
	attempt := fmt.Sprint(object.Status.Attempt)
	ranks := map[string]uint32{}
	for _, m := range j.members() {
		ranks[j.podName(object.Status.Attempt, m)] = m.firstRank
	}
	for i := range all {
		pod := &all[i]
		if pod.Labels[names.Attempt] != attempt {
			older = append(older, pod)
			continue
		}
		lost, err := r.isLost(ctx, pod)
		if err != nil {
			return nil, nil, err
		}
		views = append(views, viewOf(pod, ranks[pod.Name], lost))
	}
	return views, older, nil
}

// isLost: the pod's node is gone, or has not been heard of for so long that the cluster marks it.
func (r *Jobs) isLost(ctx context.Context, pod *v1.Pod) (bool, error) {
	if pod.Spec.NodeName == "" || pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
		return false, nil
	}
	node := &v1.Node{}
	err := r.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, node)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	for _, c := range node.Status.Conditions {
		if c.Type == v1.NodeReady && c.Status == v1.ConditionUnknown {
			return true, nil
		}
	}
	return false, err
}

// start makes the attempt's pods, once those of older attempts have ended.
func (r *Jobs) start(ctx context.Context, object *api.TrainingJob, j *job, views []view, older []*v1.Pod) (time.Duration, error) {
	s := &object.Status
	if s.NotBefore != nil {
		if left := time.Until(s.NotBefore.Time); left > 0 {
			return left, nil
		}
	}
	for _, pod := range older {
		if err := r.drop(ctx, pod, s.Attempt); err != nil {
			return 0, err
		}
	}
	have := map[string]bool{}
	for _, v := range views {
		have[v.pod.Name] = true
	}
	for _, m := range j.members() {
		if have[j.podName(s.Attempt, m)] {
			continue
		}
		pod, err := j.podOf(object, m, r.Images)
		if err != nil {
			return 0, err
		}
		err = r.Create(ctx, pod)
		if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			// A quota that is used up or a policy of the namespace: somebody may change it, and the job then starts.
			if setCondition(object, api.Placed, false, "PodRefused", "the cluster does not take the pods of this job: "+err.Error()) {
				r.tell(object, v1.EventTypeWarning, "PodRefused", "Start", err.Error())
			}
			return refusedAgain, nil
		}
		if apierrors.IsAlreadyExists(err) {
			err = r.isOurs(ctx, object, pod.Name)
		}
		var taken *nameTaken
		if errors.As(err, &taken) {
			if setCondition(object, api.Placed, false, "PodNameTaken", taken.Error()) {
				r.tell(object, v1.EventTypeWarning, "PodNameTaken", "Start", taken.Error())
			}
			return refusedAgain, nil
		}
		if err != nil {
			return 0, err
		}
	}
	s.StartedAttempt, s.Phase, s.NotBefore = s.Attempt, api.Waiting, nil
	s.Members = fmt.Sprintf("0/%d", len(j.members()))
	r.tell(object, v1.EventTypeNormal, "Started", "Start", fmt.Sprintf("attempt %d: %d pods", s.Attempt, len(j.members())))
	return soon, nil
}

// nameTaken is a pod of somebody else under a name that this job needs.
type nameTaken struct{ pod string }

func (n *nameTaken) Error() string {
	return fmt.Sprintf("there is a pod %s already that is not of this job: delete it, and the job starts", n.pod)
}

// isOurs: the pod that is there already is one that this job has made, before the cache has heard of it.
func (r *Jobs) isOurs(ctx context.Context, object *api.TrainingJob, name string) error {
	pod := &v1.Pod{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: object.Namespace, Name: name}, pod); err != nil {
		return err // gone meanwhile: it is made in the next look
	}
	if !metav1.IsControlledBy(pod, object) {
		return &nameTaken{name}
	}
	return nil
}

// drop lets an older attempt's pod go. One that has ended by itself stays for its logs, for one attempt.
func (r *Jobs) drop(ctx context.Context, pod *v1.Pod, attempt int64) error {
	if err := r.release(ctx, pod); err != nil {
		return err
	}
	if pod.Labels[names.Attempt] == fmt.Sprint(attempt-1) && (pod.Status.Phase == v1.PodFailed || pod.Status.Phase == v1.PodSucceeded) {
		return nil
	}
	return client.IgnoreNotFound(r.Delete(ctx, pod, client.Preconditions{UID: &pod.UID}))
}

// release takes the finalizer off: what the pod had to say is written down.
func (r *Jobs) release(ctx context.Context, pod *v1.Pod) error {
	before := pod.DeepCopy()
	if !controllerutil.RemoveFinalizer(pod, names.Finalizer) {
		return nil
	}
	return client.IgnoreNotFound(r.Patch(ctx, pod, client.MergeFrom(before)))
}

// leave lets go of what is left of a job that is over, or is being deleted.
func (r *Jobs) leave(ctx context.Context, object *api.TrainingJob, all []v1.Pod) error {
	for i := range all {
		pod := &all[i]
		if pod.Status.Phase != v1.PodSucceeded && pod.Status.Phase != v1.PodFailed && pod.DeletionTimestamp == nil {
			if err := r.Delete(ctx, pod, client.Preconditions{UID: &pod.UID}); client.IgnoreNotFound(err) != nil {
				return err
			}
		}
		if err := r.release(ctx, pod); err != nil {
			return err
		}
	}
	if object.DeletionTimestamp == nil {
		return nil
	}
	before := object.DeepCopy()
	controllerutil.RemoveFinalizer(object, names.Finalizer)
	return client.IgnoreNotFound(r.Patch(ctx, object, client.MergeFrom(before)))
}
