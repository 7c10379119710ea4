package gang

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"thole.dev/kubernetes/names"
)

// Admission is which nodes a pod may lie on at all: node selector, required node affinity, and taints that it tolerates.
// The ledger knows it by Label, which each node that admits such pods has, so that it counts when the gang is placed.
type Admission struct {
	Label string
	pod   *v1.Pod
	avoid []string
}

// AdmissionOf reads a pod. Pods with the same constraints have the same label.
func AdmissionOf(pod *v1.Pod, avoid ...string) Admission {
	var required *v1.NodeSelector
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		required = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	tolerations := tolerated(pod)
	sort.Strings(avoid)
	identity, _ := json.Marshal([]any{pod.Spec.NodeSelector, required, tolerations, avoid})
	digest := sha256.Sum256(identity)
	return Admission{Label: fmt.Sprintf("%s [%s]", words(pod.Spec.NodeSelector, required, tolerations, avoid), hex.EncodeToString(digest[:4])),
		pod: pod, avoid: avoid}
}

// Every pod gets two tolerations for 300 s of a lost node from the API server; they let nothing in.
func tolerated(pod *v1.Pod) []v1.Toleration {
	out := slices.DeleteFunc(append([]v1.Toleration{}, pod.Spec.Tolerations...), func(t v1.Toleration) bool {
		return t.Effect == v1.TaintEffectNoExecute && t.TolerationSeconds != nil
	})
	slices.SortFunc(out, func(a, b v1.Toleration) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// For people: it stands in the sentence that says why a gang waits.
func words(selector map[string]string, required *v1.NodeSelector, tolerations []v1.Toleration, avoid []string) string {
	var out []string
	for k, v := range selector {
		out = append(out, k+"="+v)
	}
	sort.Strings(out)
	if required != nil {
		out = append(out, "its required affinity")
	}
	taints := "no taint"
	if len(tolerations) > 0 {
		taints = "no taint but those it tolerates"
	}
	out = append(out, taints)
	if len(avoid) > 0 {
		out = append(out, fmt.Sprintf("not one of %d that have just refused it", len(avoid)))
	}
	return names.Brief(strings.Join(out, ", "), 200) // bytes; the ledger takes 253, with the digest
}

// Admits tells whether such pods may lie on a node.
func (a Admission) Admits(node *v1.Node) bool {
	if slices.Contains(a.avoid, node.Name) {
		return false
	}
	if match, err := nodeaffinity.GetRequiredNodeAffinity(a.pod).Match(node); err != nil || !match {
		return false
	}
	taints := node.Spec.Taints
	if node.Spec.Unschedulable {
		taints = append(slices.Clone(taints), v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule})
	}
	_, refused := corev1.FindMatchingUntoleratedTaint(klog.Background(), taints, a.pod.Spec.Tolerations, func(t *v1.Taint) bool {
		return t.Effect == v1.TaintEffectNoSchedule || t.Effect == v1.TaintEffectNoExecute
	}, false)
	return !refused
}
