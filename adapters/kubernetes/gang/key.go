package gang

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	v1 "k8s.io/api/core/v1"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// Source is where a pod's gang is written.
type Source string

// The ways in which a gang is written.
const (
	Alone    Source = ""         // the pod is a gang of one
	Ours     Source = "label"    // names.Gang and names.GangSize on the pod
	PodGroup Source = "podgroup" // scheduling.x-k8s.io, as scheduler-plugins, KubeRay and Kubeflow write it
	Upstream Source = "upstream" // spec.schedulingGroup: Kubernetes' own PodGroup (KEP-4671; alpha, behind GenericWorkload)
)

// Key names a gang.
type Key struct {
	Source          Source
	Namespace, Name string
}

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// KeyOf answers the gang of a pod; a pod without one is a gang of its own.
func KeyOf(pod *v1.Pod) Key {
	if name := pod.Labels[names.Gang]; name != "" {
		return Key{Ours, pod.Namespace, name}
	}
	if name := pod.Labels[names.PodGroup]; name != "" {
		return Key{PodGroup, pod.Namespace, name}
	}
	if group := pod.Spec.SchedulingGroup; group != nil && group.PodGroupName != nil {
		return Key{Upstream, pod.Namespace, *group.PodGroupName}
	}
	return Key{Alone, pod.Namespace, pod.Name + "/" + string(pod.UID)}
}

// ID names one life of a gang in the ledger. Generation counts what is placed together: a gang that has begun and gets
// more pods, or one that is placed anew, holds them under another id.
func (k Key) ID(generation uint64) core.ID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%d", k.Source, k.Namespace, k.Name, generation))
	return core.ID{Hi: binary.BigEndian.Uint64(sum[:8]), Lo: binary.BigEndian.Uint64(sum[8:16])}
}

// SizeOnPod is how many members a gang needs at least, as its pods say it: an annotation or a label.
func SizeOnPod(pod *v1.Pod) (int, error) {
	text := pod.Annotations[names.GangSize]
	if text == "" {
		text = pod.Labels[names.GangSize]
	}
	if text == "" {
		return 0, fmt.Errorf("the pod has the label %s and not the annotation %s: write how many members the gang needs", names.Gang, names.GangSize)
	}
	n, err := number(text, 0)
	if err != nil {
		return 0, fmt.Errorf("annotation %s: %w", names.GangSize, err)
	}
	return int(n), nil
}
