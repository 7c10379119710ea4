/* thole/draft/device.h: what GPUs a machine has, out of a device plugin.
 *
 * DRAFT: may change with any minor. A device plugin says what is there; it never sets, resets or shares anything.
 * Capacity of a real machine comes from the device itself. A plugin whose driver fails answers with the reason, and the
 * capacity is then zero: nothing is simulated unless the caller names the simulating plugin.
 */
#ifndef THOLE_DRAFT_DEVICE_H
#define THOLE_DRAFT_DEVICE_H
#ifndef THOLE_ENABLE_DRAFT
#error "thole/draft/device.h is a draft: define THOLE_ENABLE_DRAFT and expect changes"
#endif

#include <thole/gang.h>
#include <thole/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct thole_gpu_list {
  uint64_t struct_size; /* sized */
  thole_list gpus;      /* of thole_gpu */
} thole_gpu_list;

/* What a plugin of kind "device" provides. */
typedef struct thole_device_plugin {
  uint64_t struct_size; /* sized: append-only */
  /* Lists this machine's GPUs. `options` is JSON that is the plugin's own business ("{}" is always right). Called from
   * one thread at a time for each self; may block for as long as the driver does. Lays everything out in `room`, as the
   * core's own calls do. Fails: THOLE_UNAVAILABLE (NoDriver, DriverFailed), THOLE_INVALID (PluginOptionsBad), THOLE_TOO_SMALL. */
  thole_code (*list)(void *self, thole_str options, thole_gpu_list *gpus, thole_buffer *room,
                     thole_status *status);
} thole_device_plugin;

/* What the core provides to hosts. */
typedef struct thole_device_api {
  uint64_t struct_size; /* sized: append-only */
  /* Asks the loaded plugin `plugin` (its id) and checks its answer: sizes, names, UUIDs that are unique, UTF-8.
   * Fails: THOLE_NOT_FOUND (PluginNotLoaded), THOLE_INTERNAL (PluginBadAnswer), and what the plugin says. */
  thole_code (*list)(thole_core core, thole_str plugin, thole_str options, thole_gpu_list *gpus,
                     thole_buffer *room, thole_status *status);
} thole_device_api;

#ifdef __cplusplus
}
#endif
#endif
