/* thole/plugin.h: what a plugin exports: one symbol, which hands out one table.
 *
 *     const thole_plugin *thole_plugin_entry_v1(uint32_t abi_major, uint32_t abi_minor, thole_status *status)
 *     {
 *       static const thole_plugin plugin = {.struct_size = sizeof(thole_plugin), .id = THOLE_STR_INIT("org.example.fpga"), ...};
 *       return &plugin;
 *     }
 *
 * A plugin is found by its manifest, a YAML file in a folder that only its owner may write:
 *
 *     apiVersion: thole.dev/v1alpha1
 *     kind: Plugin
 *     id: org.example.fpga            # as in the table
 *     provides: device
 *     version: "1.0.0"
 *     abi: "0.1"                      # major.minor of the headers it was built with
 *     library: libfpga.so             # beside the manifest; no path
 *     machine: x86_64
 *     sha256: "5f3a..."               # of the library's bytes
 *
 * The core checks the manifest, the file's owner and digest, its ELF header and its symbols on one open file before it maps
 * it, and maps those very bytes. It refuses what exports anything but the entry, carries its own unwinder, wants static
 * TLS, or was built for a newer minor than the core's (while the major is 0: for any other minor).
 *
 * In a host's process a plugin behaves as the core does (core.h): nothing at load, no exception, no exit, no print. One
 * that crashes takes the host with it; one that must be isolated belongs into a process of its own.
 */
#ifndef THOLE_PLUGIN_H
#define THOLE_PLUGIN_H

#include <thole/core.h>

#ifdef __cplusplus
extern "C" {
#endif

struct thole_device_plugin;

/* What the core gives to a plugin. Lives until stop returns. */
typedef struct thole_plugin_host {
  uint64_t struct_size;      /* sized */
  const thole_host_log *log; /* or NULL. Only inside a call of the core's, never from a thread of the plugin's own */
} thole_plugin_host;

typedef struct thole_plugin {
  uint64_t struct_size; /* sized */
  uint32_t abi_major;   /* THOLE_ABI_MAJOR and THOLE_ABI_MINOR of its headers */
  uint32_t abi_minor;
  thole_str id;
  thole_str version;
  /* Before any other call, once for each core that loads it. *self is what that core hands to every other call; the core
   * never looks inside. NULL slot: *self is NULL. */
  thole_code (*start)(const thole_plugin_host *host, void **self, thole_status *status);
  /* After that core's last call, once, maybe on another thread. It has 2 s; then the core leaves it alone for ever. NULL
   * slot: nothing. */
  void (*stop)(void *self);
  /* What it provides; NULL where it does not. */
  const struct thole_device_plugin *device; /* thole/draft/device.h */
} thole_plugin;

/* The only symbol of a plugin; the plugin defines it. The arguments are the core's version. The table lives as long as the
 * process. Answers NULL, and a reason, if it cannot work with such a core. */
THOLE_EXPORT const thole_plugin *thole_plugin_entry_v1(uint32_t abi_major, uint32_t abi_minor, thole_status *status);
typedef const thole_plugin *(*thole_plugin_entry_v1_fn)(uint32_t abi_major, uint32_t abi_minor, thole_status *status);
#define THOLE_PLUGIN_ENTRY_SYMBOL "thole_plugin_entry_v1"

#ifdef __cplusplus
}
#endif
#endif
