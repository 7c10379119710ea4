/* A device plugin: one simulated GPU, called after nobody. */
#include <string.h>
#include <thole/draft/device.h>

struct answer {
  thole_gpu gpu;
  char uuid[8], model[16];
};

static thole_code list(void *self, thole_str options, thole_gpu_list *gpus, thole_buffer *room, thole_status *status) {
  (void)self, (void)options, (void)status;
  struct answer *a = room->data;
  room->used = sizeof *a;
  if (room->size < sizeof *a) return THOLE_TOO_SMALL;
  memset(a, 0, sizeof *a);
  memcpy(a->uuid, "SIM-one", 7);
  memcpy(a->model, "Example", 7);
  a->gpu.struct_size = sizeof a->gpu;
  a->gpu.uuid = (thole_str){a->uuid, 7};
  a->gpu.model = (thole_str){a->model, 7};
  a->gpu.memory_mib = 16384;
  a->gpu.flags = THOLE_GPU_SIMULATED;
  gpus->gpus = (thole_list){&a->gpu, 1, sizeof a->gpu};
  return THOLE_OK;
}

const thole_plugin *thole_plugin_entry_v1(uint32_t abi_major, uint32_t abi_minor, thole_status *status) {
  (void)abi_major, (void)abi_minor, (void)status;
  static const thole_device_plugin device = {.struct_size = sizeof device, .list = list};
  static const thole_plugin plugin = {.struct_size = sizeof plugin,
                                      .abi_major = THOLE_ABI_MAJOR,
                                      .abi_minor = THOLE_ABI_MINOR,
                                      .id = THOLE_STR_INIT("org.example.count"),
                                      .version = THOLE_STR_INIT("1.0.0"),
                                      .device = &device};
  return &plugin;
}
