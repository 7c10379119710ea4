package controller

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"path"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// Where things are in a rank's container.
const (
	binFolder    = "/thole/bin"
	runFolder    = "/thole/run"
	recordFolder = "/thole/record"
	secretFolder = "/thole/secret"
	storeFolder  = "/thole/store"
)

// Images of the pods.
type Images struct {
	Rank    string // has thole-rank and the library; its command is thole-rank
	Default string // of roles that name none
}

// podOf makes a member's pod of the job's present attempt.
func (j *job) podOf(object *api.TrainingJob, m member, images Images) (*v1.Pod, error) {
	role := j.Core.Roles[m.role]
	attempt := strconv.FormatInt(object.Status.Attempt, 10)
	grace := j.Spec.GracePeriod.seconds()
	pod := &v1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	pod.Name, pod.Namespace = j.podName(object.Status.Attempt, m), object.Namespace
	pod.Finalizers = []string{names.Finalizer}
	pod.Labels = map[string]string{names.Job: j.Name, names.Attempt: attempt, names.Role: role.Name,
		names.Member: strconv.FormatUint(uint64(m.index), 10), names.Gang: gangName(object)}
	pod.Annotations = annotations(j, role)
	if m.firstRank == 0 {
		pod.Annotations[names.Progress] = strconv.Itoa(progressPort(object))
	}
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(object, api.GroupVersion.WithKind("TrainingJob"))}
	pod.Spec = v1.PodSpec{SchedulerName: names.Scheduler, RestartPolicy: v1.RestartPolicyNever, TerminationGracePeriodSeconds: &grace,
		AutomountServiceAccountToken: new(bool), EnableServiceLinks: new(bool),
		SecurityContext: &v1.PodSecurityContext{RunAsNonRoot: of(true), RunAsUser: of(int64(1000)), RunAsGroup: of(int64(1000)),
			FSGroup: of(int64(1000)), SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}}}
	image := j.Spec.Roles[m.role].Image
	if image == "" {
		image = images.Default
	}
	if image == "" {
		return nil, &refusal{"FieldMissing", fmt.Sprintf("spec.roles[%d].image: a container image is needed here, and this controller has no default (--default-image)", m.role)}
	}
	secure := &v1.SecurityContext{AllowPrivilegeEscalation: new(bool), Capabilities: &v1.Capabilities{Drop: []v1.Capability{"ALL"}}}
	// What it copies counts as its memory until it is on the disk, and a disk may be slow.
	memory := v1.ResourceList{v1.ResourceMemory: resource.MustParse("256Mi")}
	small := v1.ResourceList{v1.ResourceCPU: resource.MustParse("10m"), v1.ResourceMemory: resource.MustParse("32Mi")}
	pod.Spec.InitContainers = []v1.Container{{Name: "thole", Image: images.Rank, Command: []string{"/thole-rank", "--install", binFolder},
		VolumeMounts: []v1.VolumeMount{{Name: "thole-bin", MountPath: binFolder}}, SecurityContext: secure,
		Resources: v1.ResourceRequirements{Requests: small, Limits: memory}}}
	resources := resourcesOf(role)
	pod.Spec.Containers = []v1.Container{{Name: "main", Image: image, Command: j.command(object, m), Env: j.environment(object, m), SecurityContext: secure,
		Resources: v1.ResourceRequirements{Requests: resources, Limits: resources}}}
	j.addVolumes(pod, m)
	return patched(pod, j.Spec.Platforms.Kubernetes.PodPatch)
}

// check makes a pod of each role and drops it: what is refused is refused before the job has begun, while it can be mended.
func (j *job) check(object *api.TrainingJob, images Images) error {
	for _, m := range j.members() {
		if m.index == 0 {
			if _, err := j.podOf(object, m, images); err != nil {
				return err
			}
		}
	}
	return nil
}

func of[T any](value T) *T { return &value }

func annotations(j *job, role core.Role) map[string]string {
	total := uint32(0)
	for _, r := range j.Core.Roles {
		total += r.Members
	}
	out := map[string]string{names.GangSize: strconv.FormatUint(uint64(total), 10)}
	if role.Kind == core.VGPU && role.Devices > 1 {
		out[names.VGPUs] = strconv.FormatUint(uint64(role.Devices), 10)
	}
	if role.GPUModel != "" {
		out[names.GPUModel] = role.GPUModel
	}
	if text := wishes(j.Core.Topology); text != "" {
		out[names.Topology] = text
	}
	if text := wishes(role.Topology); text != "" {
		out[names.RoleTopology] = text
	}
	return out
}

func wishes(list []core.Topology) string {
	if len(list) == 0 {
		return ""
	}
	var out []map[string]string
	for _, t := range list {
		mode := "preferred"
		if t.Required {
			mode = "required"
		}
		out = append(out, map[string]string{"level": t.Level, "mode": mode})
	}
	text, _ := json.Marshal(out)
	return string(text)
}

// resourcesOf a member: requests and limits are equal, so that what is counted is what it gets.
func resourcesOf(role core.Role) v1.ResourceList {
	out := v1.ResourceList{v1.ResourceCPU: *resource.NewMilliQuantity(int64(role.CPUMilli), resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(int64(role.MemoryMiB)<<20, resource.BinarySI)}
	devices := int64(role.Devices)
	switch role.Kind {
	case core.Whole:
		out[names.GPU] = *resource.NewQuantity(devices, resource.DecimalSI)
	case core.VGPU:
		out[names.VGPUMemory] = *resource.NewQuantity(devices*int64(role.VGPUMemoryMiB), resource.DecimalSI)
		if role.ShareMilli > 0 {
			out[names.VGPUShare] = *resource.NewQuantity(devices*int64(role.ShareMilli), resource.DecimalSI)
		}
	}
	return out
}

// command is what the container starts: thole-rank around the job's own command.
func (j *job) command(object *api.TrainingJob, m member) []string {
	r := j.Spec.Recovery
	out := []string{binFolder + "/thole-rank", "--grace=" + time.Duration(j.Spec.GracePeriod).String(),
		"--hang-timeout=" + time.Duration(r.HangTimeout).String(), "--start-timeout=" + time.Duration(r.StartTimeout).String()}
	if m.firstRank != 0 {
		out = append(out, "--master="+recordFolder+"/master")
	} else {
		out = append(out, "--progress="+strconv.Itoa(progressPort(object)))
	}
	if j.Spec.Checkpoint != nil {
		out = append(out, "--key="+secretFolder+"/key")
	}
	if w := j.Spec.Roles[m.role].Workdir; w != "" && w != "." {
		out = append(out, "--workdir="+w)
	}
	return append(append(out, "--"), j.Spec.Roles[m.role].Command...)
}

// masterPort is rank 0's in this attempt: outside the range from which the kernel gives ports to connections.
func masterPort(object *api.TrainingJob) int {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%d", object.UID, object.Status.Attempt)
	return 29500 + int(h.Sum32()%3000)
}

// progressPort is where rank 0 tells how far the job is, below the ports of rank 0 and of the kernel.
func progressPort(object *api.TrainingJob) int { return masterPort(object) - 3000 }

// environment is that of docs/reference/job-environment.md, as far as it is known before the pod has an address.
func (j *job) environment(object *api.TrainingJob, m member) []v1.EnvVar {
	role := j.Core.Roles[m.role]
	var out []v1.EnvVar
	set := func(name string, value any) { out = append(out, v1.EnvVar{Name: name, Value: fmt.Sprint(value)}) }
	for name, value := range sorted(j.Spec.Roles[m.role].Env) {
		set(name, value)
	}
	set("RANK", m.firstRank)
	set("WORLD_SIZE", j.ranks())
	// A pod is a node of its own for a framework: it shares neither /dev/shm nor GPUs with another.
	set("LOCAL_RANK", 0)
	set("LOCAL_WORLD_SIZE", ranksOf(role))
	set("NODE_RANK", m.number)
	set("MASTER_PORT", masterPort(object))
	if n := ranksOf(role); n > 1 {
		set("THOLE_RANKS_PER_MEMBER", n)
		set("THOLE_FIRST_RANK", m.firstRank)
	}
	set("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
	set("THOLE_JOB", j.Name)
	set("THOLE_ATTEMPT", object.Status.Attempt)
	set("THOLE_RUN", object.UID)
	set("THOLE_RECORD", recordFolder+"/record")
	set("THOLE_SOCKET", runFolder+"/socket")
	set("THOLE_METRICS", runFolder+"/metrics")
	set("THOLE_LIBRARY", binFolder+"/libthole.so.0")
	if c := j.Spec.Checkpoint; c != nil {
		set("THOLE_STORE", path.Join(storeFolder, j.Name+"-"+string(object.UID)))
		set("THOLE_KEY", runFolder+"/key")
		set("THOLE_CHECKPOINT_INTERVAL", c.Interval)
		set("THOLE_CHECKPOINT_KEEP", c.Keep) // this process does not see the store: a rank removes what is older
	}
	fromPod := func(name, field string) {
		out = append(out, v1.EnvVar{Name: name, ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{APIVersion: "v1", FieldPath: field}}})
	}
	fromPod("THOLE_POD_IP", "status.podIP")
	fromPod("CUDA_VISIBLE_DEVICES", "metadata.annotations['"+names.VisibleDevices+"']")
	// NVIDIA's container runtime gives the container these devices and no others; empty gives none.
	fromPod("NVIDIA_VISIBLE_DEVICES", "metadata.annotations['"+names.VisibleDevices+"']")
	return out
}

func (j *job) addVolumes(pod *v1.Pod, m member) {
	main := &pod.Spec.Containers[0]
	add := func(name, at string, readOnly bool, source v1.VolumeSource) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: name, VolumeSource: source})
		main.VolumeMounts = append(main.VolumeMounts, v1.VolumeMount{Name: name, MountPath: at, ReadOnly: readOnly})
	}
	field := func(file, annotation string) v1.DownwardAPIVolumeFile {
		return v1.DownwardAPIVolumeFile{Path: file, FieldRef: &v1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations['" + annotation + "']"}}
	}
	add("thole-bin", binFolder, true, v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(64<<20, resource.BinarySI)}})
	add("thole-run", runFolder, false, v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory,
		SizeLimit: resource.NewQuantity(16<<20, resource.BinarySI)}})
	add("thole-record", recordFolder, true, v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{
		Items: []v1.DownwardAPIVolumeFile{field("record", names.Record), field("master", names.Master)}}})
	claim := func(name string, readOnly bool) v1.VolumeSource {
		return v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: name, ReadOnly: readOnly}}
	}
	if c := j.Spec.Checkpoint; c != nil {
		add("thole-store", storeFolder, false, claim(c.Store, false))
		add("thole-key", secretFolder, true, v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: c.Key, DefaultMode: of(int32(0o400)),
			Items: []v1.KeyToPath{{Key: "key", Path: "key"}}}})
	}
	for _, volume := range j.Spec.Volumes {
		add("volume-"+volume.Name, volume.Path, volume.ReadOnly, claim(volume.Name, volume.ReadOnly))
	}
	if size := j.Spec.Roles[m.role].SharedMemory; size != nil {
		add("shared-memory", "/dev/shm", false, v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory, SizeLimit: size}})
	}
}

// patched merges the job's podPatch into a pod. The core has refused patches of what the job file says itself.
func patched(pod *v1.Pod, patch json.RawMessage) (*v1.Pod, error) {
	if len(patch) == 0 {
		return pod, nil
	}
	before, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, pod)
	if err != nil {
		return nil, &refusal{"PatchBad", fmt.Sprintf("spec.platforms.kubernetes.podPatch: %v", err)}
	}
	out := &v1.Pod{}
	if err := json.Unmarshal(after, out); err != nil {
		return nil, &refusal{"PatchBad", fmt.Sprintf("spec.platforms.kubernetes.podPatch: %v", err)}
	}
	return out, unchanged(pod, out)
}
