package core

// #include "calls.h"
import "C"

// Load loads the plugins of a folder. One that is refused is not an error: what asks for it says why it is not there.
func (c *Core) Load(folder string) error {
	var a arena
	defer a.release()
	status := newStatus()
	if C.core_load(c.root, c.handle, a.text(folder), &status) != C.THOLE_OK {
		return said(&status)
	}
	return nil
}

// Devices answers the GPUs of this machine, out of a device plugin.
func (c *Core) Devices(plugin, options string) ([]GPU, error) {
	var a arena
	defer a.release()
	list := C.thole_gpu_list{struct_size: C.sizeof_thole_gpu_list}
	id, given := a.text(plugin), a.text(options)
	err := a.call(blockSize, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.device_list(c.root, c.handle, id, given, &list, room, status)
	})
	if err != nil {
		return nil, err
	}
	return gpusOf(list.gpus), nil
}

func gpusOf(list C.thole_list) []GPU {
	var out []GPU
	for _, g := range elements[C.thole_gpu](list) {
		to := GPU{UUID: text(g.uuid), Model: text(g.model), MemoryMiB: uint64(g.memory_mib), ContextMiB: uint64(g.context_mib),
			MaxVGPUs: uint32(g.max_vgpus), Simulated: g.flags&C.THOLE_GPU_SIMULATED != 0,
			Unhealthy: g.flags&C.THOLE_GPU_UNHEALTHY != 0, InMIGMode: g.flags&C.THOLE_GPU_MIG != 0}
		for _, p := range elements[C.thole_mig_profile](g.mig) {
			profile := MIGProfile{Name: text(p.name), MemoryMiB: uint64(p.memory_mib), Count: uint32(p.count), ShareMilli: uint32(p.share_milli)}
			for _, at := range elements[C.thole_mig_place](p.placements) {
				profile.Places = append(profile.Places, [2]uint32{uint32(at.start), uint32(at.size)})
			}
			to.MIG = append(to.MIG, profile)
		}
		out = append(out, to)
	}
	return out
}
