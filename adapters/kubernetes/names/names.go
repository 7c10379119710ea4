// Package names has the words that Thole's pieces on Kubernetes share: labels, annotations, resources and paths.
// docs/reference/kubernetes.md says what each means.
package names

import "strings"

const (
	Group   = "thole.dev"
	Version = "v1alpha1"

	Scheduler = "thole-scheduler"
	// KubeRay's operator sets this name on the pods of a RayCluster when its batch scheduler is "scheduler-plugins".
	SchedulerForKubeRay = "scheduler-plugins-scheduler"
)

// PreemptsNobody follows a refusal in the condition of a pod that is ours; of others kube-scheduler's own preemption says there what it found.
const PreemptsNobody = "Thole preempts nobody for a gang."

// Resources of nodes and containers, all integers.
const (
	VGPUMemory = "thole.dev/vgpu-memory-mib" // of all vGPUs of the pod, MiB
	VGPUShare  = "thole.dev/vgpu-share"      // of all vGPUs of the pod, thousandths of a GPU's compute
	GPU        = "thole.dev/gpu"             // whole GPUs
)

// Labels of pods.
const (
	Job     = "thole.dev/job"
	Attempt = "thole.dev/attempt"
	Role    = "thole.dev/role"
	Member  = "thole.dev/member" // index in the role
	Gang    = "thole.dev/gang"
	// The key that scheduler-plugins, KubeRay and Kubeflow write.
	PodGroup = "scheduling.x-k8s.io/pod-group"
)

// Annotations of pods: what is asked for.
const (
	GangSize     = "thole.dev/gang-size"     // fewer members are no gang; a label of this name counts as well
	VGPUs        = "thole.dev/vgpus"         // vGPUs over which memory and share are split evenly; 1 without it
	Topology     = "thole.dev/topology"      // JSON [{"level", "mode"}]: for the whole gang
	RoleTopology = "thole.dev/role-topology" // the same, for the members of the pod's role
	GPUModel     = "thole.dev/gpu-model"     // only on this model
)

// Annotations of pods: what the scheduler has decided, written before the pod is bound.
const (
	Record         = "thole.dev/record"          // the allocation record, version 1
	VisibleDevices = "thole.dev/visible-devices" // the value of CUDA_VISIBLE_DEVICES
	Allocation     = "thole.dev/allocation"      // JSON: what the ledger is rebuilt from
)

// Annotation of pods by the controller: "ADDRESS:PORT" of rank 0.
const Master = "thole.dev/master"

// Annotation of rank 0's pod by the controller: the port at which it tells how far the job is.
const Progress = "thole.dev/progress"

// Of nodes.
const (
	Pool         = "thole.dev/pool"          // label: the NodePool that the node belongs to
	GPUs         = "thole.dev/gpus"          // annotation: JSON array of the node's GPUs
	DeviceReason = "thole.dev/device-reason" // annotation: why the node has none
)

// Finalizer keeps a pod that has ended until the controller has read how, and a job until its pods are gone.
const Finalizer = "thole.dev/ended"

// Brief cuts a text to so many bytes, with three dots where something was left out.
func Brief(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}

// Stop on a TrainingJob, "true": its pods are ended with the grace period, and none are made again.
const Stop = "thole.dev/stop"

// Of a scheduler's journal, in the folder of one process: the core's own file, and why the journal ended before its process.
const (
	JournalFile  = "gang.journal"
	JournalEnded = "ended"
)
