package controller

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"thole.dev/kubernetes/names"
)

// unchanged refuses a pod in which the job's podPatch has changed what this platform lives by. The core refuses the fields that
// a job file has words for; strategic merge patches have more ways (`$patch: replace`, a second list), so the result is
// compared, not the patch.
func unchanged(before, after *v1.Pod) error {
	refused := func(field string) error {
		return &refusal{"NativeOverrides", fmt.Sprintf("spec.platforms.kubernetes.podPatch: changes %s of the pod, which is set by Thole: leave it out", field)}
	}
	main := slices.IndexFunc(after.Spec.Containers, func(c v1.Container) bool { return c.Name == "main" })
	if main < 0 {
		return refused("container main")
	}
	was, is := &before.Spec.Containers[0], &after.Spec.Containers[main]
	for _, p := range []struct {
		field         string
		before, after any
	}{
		{"metadata.name", before.Name + before.GenerateName, after.Name + after.GenerateName},
		{"metadata.namespace", before.Namespace, after.Namespace},
		{"metadata.finalizers", true, slices.Contains(after.Finalizers, names.Finalizer)},
		{"metadata.ownerReferences", before.OwnerReferences, after.OwnerReferences},
		{"the labels thole.dev/", own(before.Labels), own(after.Labels)},
		{"the annotations thole.dev/", own(before.Annotations), own(after.Annotations)},
		{"spec.schedulerName", before.Spec.SchedulerName, after.Spec.SchedulerName},
		{"spec.nodeName", "", after.Spec.NodeName},
		{"spec.restartPolicy", before.Spec.RestartPolicy, after.Spec.RestartPolicy},
		{"spec.terminationGracePeriodSeconds", before.Spec.TerminationGracePeriodSeconds, after.Spec.TerminationGracePeriodSeconds},
		{"spec.schedulingGroup", before.Spec.SchedulingGroup, after.Spec.SchedulingGroup},
		{"the command", was.Command, is.Command},
		{"the arguments", was.Args, is.Args},
		{"the image", was.Image, is.Image},
		{"the resources", was.Resources, is.Resources},
		{"the termination message", was.TerminationMessagePath + string(was.TerminationMessagePolicy), is.TerminationMessagePath + string(is.TerminationMessagePolicy)},
		{"the restart policy of container main", was.RestartPolicy, is.RestartPolicy},
		{"init container thole", initThole(before), initThole(after)},
	} {
		if !equality.Semantic.DeepEqual(p.before, p.after) {
			return refused(p.field)
		}
	}
	if name := missingOf(was.Env, is.Env, func(e v1.EnvVar) string { return e.Name }); name != "" {
		return refused("variable " + name)
	}
	if path := missingOf(was.VolumeMounts, is.VolumeMounts, func(m v1.VolumeMount) string { return m.MountPath }); path != "" {
		return refused("the mount " + path)
	}
	if name := missingOf(before.Spec.Volumes, after.Spec.Volumes, func(v v1.Volume) string { return v.Name }); name != "" {
		return refused("volume " + name)
	}
	for _, c := range slices.Concat(after.Spec.InitContainers, after.Spec.Containers) {
		for name := range c.Resources.Requests {
			if c.Name != "main" && strings.HasPrefix(string(name), names.Group+"/") {
				return refused("resource " + string(name))
			}
		}
		for name := range c.Resources.Limits {
			if c.Name != "main" && strings.HasPrefix(string(name), names.Group+"/") {
				return refused("resource " + string(name))
			}
		}
	}
	return nil
}

// own are the labels or annotations that are this platform's.
func own(all map[string]string) map[string]string {
	out := map[string]string{}
	for name, value := range all {
		if strings.HasPrefix(name, names.Group+"/") || name == names.PodGroup {
			out[name] = value
		}
	}
	return out
}

func initThole(pod *v1.Pod) *v1.Container {
	for i, c := range pod.Spec.InitContainers {
		if c.Name == "thole" {
			return &pod.Spec.InitContainers[i]
		}
	}
	return nil
}

// missingOf answers the name of an element of `before` that is not in `after` as it was, or that stands there twice.
func missingOf[T any](before, after []T, name func(T) string) string {
	for _, b := range before {
		same := 0
		for _, a := range after {
			if name(a) == name(b) && !equality.Semantic.DeepEqual(a, b) {
				return name(b)
			} else if name(a) == name(b) {
				same++
			}
		}
		if same != 1 {
			return name(b)
		}
	}
	return ""
}
