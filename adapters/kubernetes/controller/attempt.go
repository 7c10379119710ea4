package controller

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// follow looks after an attempt of which all pods were made and none has failed.
func (r *Jobs) follow(ctx context.Context, object *api.TrainingJob, j *job, views []view) (time.Duration, error) {
	s := &object.Status
	members := j.members()
	if len(views) < len(members) {
		return r.findMissing(ctx, object, j)
	}
	running, succeeded := 0, 0
	var first *view
	for i := range views {
		v := &views[i]
		if v.rank == 0 {
			first = v
		}
		if v.running {
			running++
		}
		if v.pod.Status.Phase == v1.PodSucceeded {
			succeeded++
		}
	}
	s.Members = fmt.Sprintf("%d/%d", running, len(members))
	r.Asker.learned(object)
	r.describe(object, views, running, len(members))
	if succeeded == len(members) {
		r.complete(object, views)
		return time.Millisecond, nil
	}
	if first != nil && first.pod.Status.PodIP != "" {
		if err := r.tellMaster(ctx, object, views, first.pod.Status.PodIP); err != nil {
			return 0, err
		}
	}
	return r.nextLook(object, j), nil
}

// nextLook is when the time limit is over, for which there is no event.
func (r *Jobs) nextLook(object *api.TrainingJob, j *job) time.Duration {
	if limit := time.Duration(j.Spec.TimeLimit); limit > 0 {
		return max(time.Until(object.Status.StartTime.Add(limit)), time.Millisecond)
	}
	return 0
}

// findMissing: a pod that was made is not in the cache. Either the cache is late, or somebody has removed it by force.
func (r *Jobs) findMissing(ctx context.Context, object *api.TrainingJob, j *job) (time.Duration, error) {
	for _, m := range j.members() {
		pod := &v1.Pod{}
		name := j.podName(object.Status.Attempt, m)
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: object.Namespace, Name: name}, pod)
		if client.IgnoreNotFound(err) != nil {
			return 0, err
		}
		if err != nil {
			object.Status.Phase = api.Recovering
			object.Status.Ending = &api.Ending{Kind: kindNode, Member: name, Message: name + " is gone: it was removed by force"}
			return time.Millisecond, nil
		}
	}
	return 100 * time.Millisecond, nil
}

// describe sets the phase and the conditions of an attempt that goes on.
func (r *Jobs) describe(object *api.TrainingJob, views []view, running, members int) {
	s := &object.Status
	placed := 0
	for _, v := range views {
		if v.pod.Spec.NodeName != "" {
			placed++
		} else if reason, message := waitsFor(v.pod); message != "" {
			if setCondition(object, api.Placed, false, reason, message) {
				r.tell(object, v1.EventTypeWarning, reason, "Place", message)
			}
		}
	}
	if placed == members {
		setCondition(object, api.Placed, true, "Placed", fmt.Sprintf("attempt %d: %d members on %s", s.Attempt, members, nodesOf(views)))
	}
	switch {
	case running > 0 && running == members:
		s.Phase = api.Running
		setCondition(object, api.Ready, true, "Running", fmt.Sprintf("attempt %d: all %d members run", s.Attempt, members))
	case s.Phase != api.Running:
		reason, message := "Starting", fmt.Sprintf("attempt %d: %d of %d members run", s.Attempt, running, members)
		for _, v := range views {
			if why, more := stuck(v.pod); why != "" {
				reason, message = why, v.pod.Name+": "+more
			}
		}
		setCondition(object, api.Ready, false, reason, message)
	}
}

// waitsFor answers the scheduler's reason and sentence of a pod that has no node.
func waitsFor(pod *v1.Pod) (reason, message string) {
	for _, c := range pod.Status.Conditions {
		if c.Type == v1.PodScheduled && c.Status == v1.ConditionFalse {
			if reason, message, found := cutReason(c.Message); found {
				return reason, message
			}
			return c.Reason, c.Message
		}
	}
	return "", ""
}

// stuck answers why a container that has a node does not start.
func stuck(pod *v1.Pod) (reason, message string) {
	for _, list := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range list {
			if w := s.State.Waiting; w != nil && w.Message != "" {
				return w.Reason, w.Message
			}
		}
	}
	return "", ""
}

// tellMaster writes on every pod where rank 0 is. thole-rank waits for it.
func (r *Jobs) tellMaster(ctx context.Context, object *api.TrainingJob, views []view, address string) error {
	where := net.JoinHostPort(address, strconv.Itoa(masterPort(object)))
	for _, v := range views {
		if v.pod.Annotations[names.Master] == where {
			continue
		}
		patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"uid": v.pod.UID, "annotations": map[string]string{names.Master: where}}})
		if err := r.Patch(ctx, v.pod, client.RawPatch("application/merge-patch+json", patch)); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

func (r *Jobs) complete(object *api.TrainingJob, views []view) {
	s := &object.Status
	r.learn(object, views)
	s.Phase, s.CompletionTime = api.Complete, of(metav1.Now())
	s.Members = fmt.Sprintf("0/%d", len(views))
	setCondition(object, api.Ready, false, "Ended", "all members have ended")
	setCondition(object, api.JobComplete, true, "Complete", fmt.Sprintf("attempt %d is done; %d incidents", s.Attempt, len(s.Incidents)))
	r.tell(object, v1.EventTypeNormal, "Complete", "Complete", fmt.Sprintf("attempt %d is done", s.Attempt))
}

// learn takes into the status what the pods have left.
func (r *Jobs) learn(object *api.TrainingJob, views []view) {
	s := &object.Status
	step := uint64(0)
	for _, v := range views {
		step = max(step, v.facts.Step)
		s.Checkpoint, s.Restored = max(s.Checkpoint, v.facts.Committed), max(s.Restored, v.facts.Restored)
		if v.rank == 0 && v.facts.Result != nil {
			if text, err := json.Marshal(v.facts.Result); err == nil {
				s.Result = &runtime.RawExtension{Raw: text}
			}
		}
	}
	if step > 0 {
		s.Progress = &api.Progress{Attempt: s.Attempt, Step: step, Time: of(metav1.Now())}
	} else if s.Progress != nil {
		s.Progress.Message = ""
	}
}

// end brings the attempt to its end, and then decides what follows.
func (r *Jobs) end(ctx context.Context, object *api.TrainingJob, j *job, views []view) (time.Duration, error) {
	s := &object.Status
	all := true
	for _, v := range views {
		if v.ended {
			continue
		}
		all = false
		if v.pod.DeletionTimestamp != nil {
			continue
		}
		options := []client.DeleteOption{client.Preconditions{UID: &v.pod.UID}}
		if isFailure(s.Ending) {
			options = append(options, client.GracePeriodSeconds(1)) // the others wait for one that will not come back
		}
		if err := r.Delete(ctx, v.pod, options...); client.IgnoreNotFound(err) != nil {
			return 0, err
		}
	}
	if !all {
		return soon, nil
	}
	r.learn(object, views)
	if !isFailure(s.Ending) {
		reason := map[string]string{kindStop: "Stopped", kindTimeLimit: "TimeLimit"}[s.Ending.Kind]
		s.Phase, s.CompletionTime = api.Stopped, of(metav1.Now())
		setCondition(object, api.Ready, false, reason, s.Ending.Message)
		r.tell(object, v1.EventTypeNormal, reason, "Stop", fmt.Sprintf("%s; newest checkpoint: step %d", s.Ending.Message, s.Checkpoint))
		return time.Millisecond, nil
	}
	return time.Millisecond, r.decide(object, j, views)
}

// decide takes the incident into the history and follows the core's decision. All of it is one write of the status.
func (r *Jobs) decide(object *api.TrainingJob, j *job, views []view) error {
	s := &object.Status
	var incident api.Incident
	if len(views) == 0 {
		incident = api.Incident{Attempt: s.Attempt, Kind: kindNode, Member: s.Ending.Member, Message: s.Ending.Message, Time: metav1.NowMicro()}
	} else {
		incident = blame(s.Ending, views)
	}
	incident.Step = max(incident.Step, s.Checkpoint)
	history := make([]core.Incident, 0, len(s.Incidents)+1)
	for _, i := range append(s.Incidents[:len(s.Incidents):len(s.Incidents)], incident) {
		history = append(history, ofHistory(i))
	}
	d, err := r.Core.Decide(history, j.policy())
	if err != nil {
		return err
	}
	incident.Decision = d.Message
	s.Incidents = append(s.Incidents, incident)
	shorten(s.Incidents)
	s.Ending = nil
	setCondition(object, api.Ready, false, incident.Kind, incident.Message)
	r.tell(object, v1.EventTypeWarning, incident.Kind, "Recover",
		fmt.Sprintf("rank %d (%s): %s. %s", incident.Rank, incident.Member, names.Brief(incident.Message, 500), d.Message))
	if !d.Restart {
		s.Phase, s.CompletionTime = api.Failed, of(metav1.Now())
		setCondition(object, api.JobFailed, true, d.Reason, d.Message+": "+incident.Message)
		return nil
	}
	s.Attempt++
	s.Phase = api.Recovering
	s.NotBefore = of(metav1.NewMicroTime(time.Now().Add(d.Delay)))
	return nil
}

func ofHistory(i api.Incident) core.Incident {
	kinds := map[string]core.IncidentKind{kindExit: core.Exited, kindSignal: core.Signaled, kindHang: core.Hung, kindStart: core.NotBegun,
		kindMemory: core.NoMemory, kindNode: core.NodeGone}
	out := core.Incident{Kind: kinds[i.Kind], Rank: i.Rank, Code: i.Code, Attempt: uint64(i.Attempt), Step: i.Step}
	if raw, err := hex.DecodeString(i.Cause); err == nil && len(raw) == 16 {
		for n, b := range raw {
			if n < 8 {
				out.Cause.Hi = out.Cause.Hi<<8 | uint64(b)
			} else {
				out.Cause.Lo = out.Cause.Lo<<8 | uint64(b)
			}
		}
	}
	return out
}
