// Package gang says what pods mean: which gang a pod belongs to, what it wants in the words of the ledger, and how the
// pods of a gang become one request. It reads objects and keeps nothing.
package gang

import (
	"encoding/json"
	"fmt"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// Demand is what one pod wants. Pods with equal demands are members of one role. Comparable.
type Demand struct {
	Kind          core.Kind
	Devices       uint32
	ShareMilli    uint32 // of each vGPU
	VGPUMemoryMiB uint64 // of each vGPU
	GPUModel      string
	CPUMilli      uint64
	MemoryMiB     uint64
	RoleTopology  string // as it is written on the pod
	Label         string // of the nodes that admit it (Admission.Label)
}

// Asks tells whether a pod wants devices of ours.
func Asks(pod *v1.Pod) bool {
	for i := range pod.Spec.InitContainers {
		if asks(&pod.Spec.InitContainers[i]) {
			return true
		}
	}
	for i := range pod.Spec.Containers {
		if asks(&pod.Spec.Containers[i]) {
			return true
		}
	}
	return false
}

func asks(c *v1.Container) bool {
	for _, r := range []v1.ResourceName{names.VGPUMemory, names.VGPUShare, names.GPU} {
		if q, found := c.Resources.Requests[r]; found && !q.IsZero() {
			return true
		}
	}
	return false
}

const mib = 1 << 20

// Sizes are what a pod takes of its node beside devices: thousandths of a core, and MiB. Init containers and sidecars
// count as the kubelet counts them.
func Sizes(pod *v1.Pod) (cpuMilli, memoryMiB uint64) {
	r := resource.PodRequests(pod, resource.PodResourcesOptions{})
	return uint64(r.Cpu().MilliValue()), (uint64(r.Memory().Value()) + mib - 1) / mib
}

// DemandOf reads a pod. What contradicts itself is an error whose sentence says what to write.
func DemandOf(pod *v1.Pod) (Demand, error) {
	d := Demand{GPUModel: pod.Annotations[names.GPUModel], RoleTopology: pod.Annotations[names.RoleTopology], Label: AdmissionOf(pod).Label}
	d.CPUMilli, d.MemoryMiB = Sizes(pod)
	r := resource.PodRequests(pod, resource.PodResourcesOptions{})
	whole, memory, share := count(r, names.GPU), count(r, names.VGPUMemory), count(r, names.VGPUShare)
	vgpus, err := number(pod.Annotations[names.VGPUs], 1)
	if err != nil {
		return d, fmt.Errorf("annotation %s: %w", names.VGPUs, err)
	}
	switch {
	case whole > 0 && (memory > 0 || share > 0):
		return d, fmt.Errorf("a pod asks for %s or for %s, not for both: split it in two", names.GPU, names.VGPUMemory)
	case whole > 0:
		d.Kind, d.Devices = core.Whole, uint32(whole)
	case memory > 0:
		if share%vgpus != 0 || memory%vgpus != 0 || share/vgpus > 1000 {
			return d, fmt.Errorf("%s %d and %s %d over %d vGPUs: both must divide, and a share is 1000 at most", names.VGPUMemory, memory,
				names.VGPUShare, share, vgpus)
		}
		d.Kind, d.Devices, d.VGPUMemoryMiB, d.ShareMilli = core.VGPU, uint32(vgpus), memory/vgpus, uint32(share/vgpus)
	case share > 0:
		return d, fmt.Errorf("%s without %s: a vGPU needs its memory, in MiB", names.VGPUShare, names.VGPUMemory)
	}
	if d.Kind == core.None {
		d.GPUModel = ""
	}
	_, err = topologyOf(d.RoleTopology)
	return d, err
}

func count(r v1.ResourceList, name v1.ResourceName) uint64 {
	q := r[name]
	return uint64(q.Value())
}

func number(text string, otherwise uint64) (uint64, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a number from 1 to 65535", names.Brief(text, 100))
	}
	return n, nil
}

func topologyOf(text string) ([]core.Topology, error) {
	if text == "" {
		return nil, nil
	}
	var wishes []struct{ Level, Mode string }
	if err := json.Unmarshal([]byte(text), &wishes); err != nil {
		return nil, fmt.Errorf("topology %q is not a JSON list of {level, mode}", names.Brief(text, 100))
	}
	var out []core.Topology
	for _, w := range wishes {
		if w.Mode != "required" && w.Mode != "preferred" {
			return nil, fmt.Errorf("topology %s: mode is required or preferred, not %q", names.Brief(w.Level, 100), names.Brief(w.Mode, 100))
		}
		out = append(out, core.Topology{Level: w.Level, Required: w.Mode == "required"})
	}
	return out, nil
}
