package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// library is the core, for as long as a test lasts.
func library(t *testing.T) *core.Core {
	t.Helper()
	if os.Getenv("THOLE_LIBRARY") == "" {
		t.Skip("needs library: THOLE_LIBRARY, the path of libthole.so.0")
	}
	c, err := core.Open("", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// digits is a job of two members with a store, as the core reads it, with a podPatch.
func digits(t *testing.T, patch string) (*job, *api.TrainingJob) {
	t.Helper()
	c := library(t)
	object := &api.TrainingJob{ObjectMeta: metav1.ObjectMeta{Name: "digits", Namespace: "n", UID: "6f2b8f0e-3c57-4b0e-9c1a-2f4f5c1f9d10"}}
	object.Spec.Raw = []byte(`{"roles": [{"name": "trainer", "members": 2, "vgpu": {"memory": "1Gi"}, "cpu": "10m", "memory": "32Mi", "command": ["true"], "image": "i"}],
		"checkpoint": {"keep": 7}, "platforms": {"kubernetes": {}}}`)
	object.Status.Attempt = 3
	j, err := readJob(c, object)
	if err != nil {
		t.Fatal(err)
	}
	j.Spec.Platforms.Kubernetes.PodPatch = json.RawMessage(patch)
	return j, object
}

func TestWhatAPodOfAJobHas(t *testing.T) {
	j, object := digits(t, "")
	for _, m := range j.members() {
		pod, err := j.podOf(object, m, Images{Rank: "r"})
		if err != nil {
			t.Fatal(err)
		}
		variables := map[string]string{}
		for _, v := range pod.Spec.Containers[0].Env {
			variables[v.Name] = v.Value
		}
		if variables["THOLE_CHECKPOINT_KEEP"] != "7" || variables["THOLE_ATTEMPT"] != "3" {
			t.Error(variables)
		}
		// Only rank 0 tells how far the job is, at the port that stands on its pod.
		command := strings.Join(pod.Spec.Containers[0].Command, " ")
		if port := pod.Annotations[names.Progress]; (port != "") != (m.firstRank == 0) || strings.Contains(command, "--progress="+port) != (port != "") {
			t.Error(port, command)
		}
	}
}

func TestAPodPatchDoesNotChangeWhatIsOurs(t *testing.T) {
	main := func(change string) string {
		return `{"spec": {"containers": [{"name": "main", ` + change + `}]}}`
	}
	bad := map[string]string{ // patch: what the sentence names
		`{"metadata": {"labels": {"thole.dev/gang": "another"}}}`:                                                                        "thole.dev/",
		`{"metadata": {"labels": {"thole.dev/job": null}}}`:                                                                              "thole.dev/",
		`{"metadata": {"labels": {"scheduling.x-k8s.io/pod-group": "theirs"}}}`:                                                          "labels",
		`{"metadata": {"annotations": {"thole.dev/gang-size": "1"}}}`:                                                                    "annotations",
		`{"metadata": {"annotations": {"thole.dev/allocation": "{}"}}}`:                                                                  "annotations",
		`{"metadata": {"annotations": {"$patch": "replace", "a": "b"}}}`:                                                                 "annotations",
		`{"metadata": {"$patch": "replace", "name": "x"}}`:                                                                               "metadata.name",
		`{"metadata": {"namespace": "kube-system"}}`:                                                                                     "metadata.namespace",
		`{"metadata": {"finalizers": null}}`:                                                                                             "metadata.finalizers",
		`{"metadata": {"$deleteFromPrimitiveList/finalizers": ["thole.dev/ended"]}}`:                                                     "metadata.finalizers",
		`{"metadata": {"ownerReferences": null}}`:                                                                                        "metadata.ownerReferences",
		`{"metadata": {"generateName": "x-"}}`:                                                                                           "metadata.name",
		`{"spec": {"$patch": "replace", "containers": [{"name": "main", "image": "x"}]}}`:                                                "of the pod",
		`{"spec": {"containers": [{"$patch": "replace"}, {"name": "main", "image": "x"}]}}`:                                              "of the pod",
		`{"spec": {"containers": [{"name": "main", "$patch": "delete"}, {"name": "other", "image": "x"}]}}`:                              "container main",
		`{"spec": {"schedulerName": "default-scheduler"}}`:                                                                               "spec.schedulerName",
		`{"spec": {"nodeName": "a"}}`:                                                                                                    "spec.nodeName",
		`{"spec": {"restartPolicy": "Always"}}`:                                                                                          "spec.restartPolicy",
		`{"spec": {"terminationGracePeriodSeconds": 0}}`:                                                                                 "terminationGracePeriodSeconds",
		`{"spec": {"schedulingGroup": {"podGroupName": "g"}}}`:                                                                           "spec.schedulingGroup",
		`{"spec": {"initContainers": [{"name": "thole", "image": "x"}]}}`:                                                                "init container thole",
		`{"spec": {"initContainers": [{"name": "thole", "$patch": "delete"}]}}`:                                                          "init container thole",
		`{"spec": {"volumes": [{"name": "thole-key", "$patch": "delete"}]}}`:                                                             "volume thole-key",
		`{"spec": {"volumes": [{"name": "thole-store", "emptyDir": {}, "persistentVolumeClaim": null}]}}`:                                "volume thole-store",
		`{"spec": {"containers": [{"name": "side", "image": "x", "resources": {"limits": {"thole.dev/gpu": "1"}}}]}}`:                    "resource thole.dev/gpu",
		`{"spec": {"initContainers": [{"name": "first", "image": "x", "resources": {"requests": {"thole.dev/vgpu-memory-mib": "1"}}}]}}`: "resource thole.dev/vgpu-memory-mib",
		main(`"command": ["x"]`):                                    "the command",
		main(`"args": ["x"]`):                                       "the arguments",
		main(`"image": "x"`):                                        "the image",
		main(`"resources": {"limits": {"cpu": "1"}}`):               "the resources",
		main(`"terminationMessagePath": "/tmp/x"`):                  "termination message",
		main(`"terminationMessagePolicy": "FallbackToLogsOnError"`): "termination message",
		main(`"restartPolicy": "Always"`):                           "restart policy",
		main(`"env": [{"name": "RANK", "value": "5"}, {"name": "THOLE_ATTEMPT", "value": "9"}]`): "variable RANK",
		main(`"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]`):                      "variable NVIDIA_VISIBLE_DEVICES",
		main(`"env": [{"name": "THOLE_KEY", "$patch": "delete"}]`):                               "variable THOLE_KEY",
		main(`"volumeMounts": [{"mountPath": "/thole/run", "name": "thole-bin"}]`):               "the mount /thole/run",
		main(`"volumeMounts": [{"mountPath": "/thole/record", "$patch": "delete"}]`):             "the mount /thole/record",
		`{"spec": 7}`: "podPatch",
	}
	refused := 0
	for patch, want := range bad {
		j, object := digits(t, patch)
		err := j.check(object, Images{Rank: "r"})
		var no *refusal
		if !errors.As(err, &no) || !strings.Contains(no.Message, want) || !strings.HasPrefix(no.Message, "spec.platforms.kubernetes.podPatch: ") {
			t.Errorf("%s: %v", patch, err)
			continue
		}
		refused++
	}
	fmt.Printf("%d of %d patches of what is ours are refused\n", refused, len(bad))
	good := []string{
		`{"metadata": {"labels": {"team": "a"}, "annotations": {"k8s.v1.cni.cncf.io/networks": "roce"}}}`,
		`{"spec": {"runtimeClassName": "nvidia", "hostNetwork": true, "tolerations": [{"key": "gpu", "operator": "Exists"}], "nodeSelector": {"a": "b"}}}`,
		`{"spec": {"securityContext": {"runAsUser": 2000}, "volumes": [{"name": "cache", "emptyDir": {}}]}}`,
		`{"spec": {"initContainers": [{"name": "fetch", "image": "x"}], "containers": [{"name": "side", "image": "x", "resources": {"limits": {"cpu": "1"}}}]}}`,
		main(`"env": [{"name": "NCCL_DEBUG", "value": "INFO"}], "volumeMounts": [{"mountPath": "/data", "name": "cache"}]`),
	}
	for _, patch := range good {
		j, object := digits(t, patch)
		if err := j.check(object, Images{Rank: "r"}); err != nil {
			t.Errorf("%s: %v", patch, err)
		}
	}
}

func TestVariablesThatAreOursOnThisPlatform(t *testing.T) {
	j, _ := digits(t, "")
	j.Spec.Roles[0].Env = map[string]string{"NVIDIA_VISIBLE_DEVICES": "all"}
	var no *refusal
	if err := j.fitsHere(); !errors.As(err, &no) || no.Reason != "NativeOverrides" || !strings.Contains(no.Message, "spec.roles[0].env.NVIDIA_VISIBLE_DEVICES") {
		t.Error(err)
	}
}
