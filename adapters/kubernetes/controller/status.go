package controller

import (
	"context"
	"iter"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/names"
)

// setCondition answers whether anything of it is new.
func setCondition(object *api.TrainingJob, kind string, yes bool, reason, message string) bool {
	status := metav1.ConditionFalse
	if yes {
		status = metav1.ConditionTrue
	}
	const longest = 32 << 10 // of a condition's message
	return meta.SetStatusCondition(&object.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason,
		Message: names.Brief(message, longest), ObservedGeneration: object.Generation})
}

// writeStatus writes it if it has changed, and only onto the object that was read.
func (r *Jobs) writeStatus(ctx context.Context, before, after *api.TrainingJob) error {
	if reflect.DeepEqual(before.Status, after.Status) {
		return nil
	}
	written := before.DeepCopy() // with the resource version that was read
	written.Status = after.Status
	return client.IgnoreNotFound(r.Status().Update(ctx, written))
}

// tell makes an event of a sentence. The API server takes notes of up to 1024 bytes, and drops an event with a longer one.
func (r *Jobs) tell(object *api.TrainingJob, kind, reason, action, sentence string) {
	r.Events.Eventf(object, nil, kind, reason, action, "%s", names.Brief(sentence, 1000))
}

// podsOf answers the pods that the job owns. Another job of the same name, before it, owned others.
func (r *Jobs) podsOf(ctx context.Context, object *api.TrainingJob) ([]v1.Pod, error) {
	var list v1.PodList
	if err := r.List(ctx, &list, client.InNamespace(object.Namespace), client.MatchingLabels{names.Job: object.Name}); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p v1.Pod) bool { return !metav1.IsControlledBy(&p, object) }), nil
}

// releaseOrphans lets go of pods of a job of this name that is gone: somebody has taken its finalizer off, and nobody else would
// take theirs. The cluster then deletes them, as it does what has no owner.
func (r *Jobs) releaseOrphans(ctx context.Context, object *api.TrainingJob) error {
	var list v1.PodList
	if err := r.List(ctx, &list, client.InNamespace(object.Namespace), client.MatchingLabels{names.Job: object.Name}); err != nil {
		return err
	}
	for i := range list.Items {
		owner := metav1.GetControllerOf(&list.Items[i])
		if owner == nil || owner.Kind != "TrainingJob" || owner.Name != object.Name || owner.UID == object.UID {
			continue
		}
		if err := r.release(ctx, &list.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// shorten keeps the history small enough for an object, which may have 1.5 MiB: what each of a thousand incidents has to say
// is cut, of older ones more.
func shorten(incidents []api.Incident) {
	const newest, long, short = 100, 400, 60
	for i := range incidents {
		most := short
		if len(incidents)-i <= newest {
			most = long
		}
		incidents[i].Message, incidents[i].Decision = names.Brief(incidents[i].Message, most), names.Brief(incidents[i].Decision, most)
	}
}

// counted is what the framework puts before a plugin's words; names.PreemptsNobody comes after them.
var counted = regexp.MustCompile(`^\d+/\d+ nodes are available: `)

// cutReason splits the scheduler's "Reason: sentence".
func cutReason(text string) (reason, message string, found bool) {
	text = strings.TrimSuffix(counted.ReplaceAllString(text, ""), " "+names.PreemptsNobody)
	reason, message, found = strings.Cut(text, ": ")
	if !found || reason == "" || strings.ContainsAny(reason, " ./") {
		return "", "", false
	}
	return reason, strings.TrimSuffix(message, "."), true
}

func nodesOf(views []view) string {
	count := map[string]int{}
	for _, v := range views {
		count[v.pod.Spec.NodeName]++
	}
	return strings.Join(slices.Sorted(maps.Keys(count)), ", ")
}

// sorted goes through a map in the order of its keys, so that equal maps make equal pods.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
