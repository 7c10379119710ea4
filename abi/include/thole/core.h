/* thole/core.h: where a host begins: one symbol, one root table, one handle.
 *
 *     thole_status status = {sizeof status};
 *     const thole_root *thole = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, &status);
 *     thole_core core = {0};
 *     if (thole == NULL || thole->core->open(NULL, &core, &status) != THOLE_OK) return say(&status);
 *     ... thole->gang->plan(core, ...) ...
 *     thole->core->close(core, &status);
 *
 * What the core promises to the process that loads it:
 *   - Loading runs nothing of ours. No call changes signal handlers, the signal mask, environment, umask or working
 *     folder, and open starts no thread. What calls do make: files in the folders that they are given; one thread in close,
 *     that watches a plugin's deadline; one child process for a THOLE_KEY_HELPER, whose answer counts and not its wait
 *     status (a host that reaps it first does no harm). Descriptors are close-on-exec; no SIGPIPE comes out of a call.
 *   - No exception, abort, exit or print comes out of a call. Logs go to the host's log table, or nowhere.
 *   - The caller owns time: whoever decides something by time is given `now`.
 *   - After a fork the child's core answers THOLE_FORKED and touches no lock. The child may open a core of its own; from
 *     then on what it has of its parent's is THOLE_STALE there. The child of fork() keeps none of the parent's locks on
 *     files; that of _Fork() or clone() keeps them until it ends or executes something.
 *     (vfork shares the parent's memory and cannot be told apart: exec is all that may follow it.)
 *   - Code once loaded is never unmapped. After close a handle answers THOLE_STALE. close ends the core's writers and
 *     readers as their own close would; in a forked child they answer THOLE_FORKED as the core does.
 *
 * Threads: every slot of every table may be called from any thread. Calls on the ledger (gang.h) wait for each other; with
 * thole_core_options.state also for the journal's fdatasync and for other processes' transactions, these for 30 s at
 * most (StateBusy). Nothing else holds what they wait for: not I/O on a checkpoint's store, not a key's helper, not a
 * plugin. No lock is held while the host's log table is called.
 *
 * Bounds: 256 cores in a process (HandlesOut). A relative path is taken from the working folder at the call.
 */
#ifndef THOLE_CORE_H
#define THOLE_CORE_H

#include <thole/base.h>
#include <thole/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opaque. A core is one ledger of devices with the services around it. A process may open several. {0} is none. */
typedef struct thole_core {
  uint64_t v;
} thole_core;

/* --- What the host gives. --------------------------------------------------------------------------------------- */

typedef int32_t thole_log_level;
enum { THOLE_LOG_DEBUG = 1, THOLE_LOG_INFO = 2, THOLE_LOG_WARN = 3, THOLE_LOG_ERROR = 4 };

/* The host's log. `write` may be called from any thread that is inside a call of ours, must not call the core back, and
 * must not unwind (no exception, no longjmp). `component` is a folder of the core, such as "gang". Since 0.1. */
typedef struct thole_host_log {
  uint64_t struct_size; /* sized */
  void *self;           /* handed to write; the core never looks inside */
  thole_log_level level; /* write is called for this level and above; 0 means THOLE_LOG_INFO */
  uint32_t reserved;
  void (*write)(void *self, thole_log_level level, thole_str component, thole_str message);
} thole_host_log;

typedef struct thole_core_options {
  uint64_t struct_size; /* sized */
  /* The host's log, or NULL for none. Copied. `self` must live until close returns. */
  const thole_host_log *log;
  /* A folder (UTF-8 path) where the ledger keeps its journal, made with mode 0700 if it is missing; empty keeps the
   * ledger in memory only. A platform without a database of its own gives the same one again (local); another gives a new
   * one to each process, as evidence, or none. Several processes may open the same folder: each transaction takes the
   * folder's lock and first reads what the others have written.
   * Fails: StateNotPrivate (others may write there), StateNewer (a newer Thole wrote it), JournalDamaged. */
  thole_str state;
  /* A file (UTF-8 path) that holds this process's metrics, so that they outlive a kill -9; empty keeps them in memory.
   * See thole/draft/metrics.h. */
  thole_str metrics;
} thole_core_options;

/* --- Plugins. --------------------------------------------------------------------------------------------------- */

/* What is known of a plugin, loaded or refused. Strings lie in the caller's buffer. */
typedef struct thole_plugin_info {
  uint64_t struct_size; /* sized */
  thole_str id;         /* such as "thole.device.sim" */
  thole_str provides;   /* "device" */
  thole_str version;    /* the plugin's own, for people */
  thole_str manifest;   /* path of the manifest */
  thole_str reason;     /* empty if it is loaded, else why it was refused */
  thole_str message;    /* the sentence that goes with the reason */
} thole_plugin_info;

typedef struct thole_plugin_list {
  uint64_t struct_size; /* sized */
  thole_list plugins;   /* of thole_plugin_info, by id */
} thole_plugin_list;

/* The core itself. Since 0.1. */
typedef struct thole_core_api {
  uint64_t struct_size; /* sized: append-only */

  /* Opens a core. With options->state it replays the journal, so that the ledger is what it was before a crash.
   * Owns: *core belongs to the caller, who gives it to close. options may be NULL, and are copied.
   * Fails: StateNotPrivate, StateNewer, StateUnwritable, StateBusy, JournalDamaged, MetricsFileBad, MetricsFileTaken (another process
   * writes there), StoreFull; *core is then {0}. */
  thole_code (*open)(const thole_core_options *options, thole_core *core, thole_status *status);

  /* Ends a core: stops its plugins (each has 2 s; one that does not return is left behind, its code stays mapped),
   * and waits for calls that other threads are in. The ledger's journal stays.
   * Fails: THOLE_STALE; THOLE_TIMEOUT with PluginStopTimeout, and the core is closed all the same. */
  thole_code (*close)(thole_core core, thole_status *status);

  /* Reads every `*.yaml` manifest of a folder and loads the plugins that they name. A plugin that is refused, because of
   * its manifest, owner, digest, architecture, symbols or version, is refused before a line of it runs and is not mapped;
   * it is in plugins() with its reason, and the others are loaded. Repeating the call loads what is new.
   * Fails: THOLE_NOT_FOUND (no such folder), THOLE_DENIED (PluginFolderNotPrivate: somebody but its owner may write). */
  thole_code (*load)(thole_core core, thole_str folder, thole_status *status);

  /* What load has seen, in the order of ids. Fails: nothing of its own. */
  thole_code (*plugins)(thole_core core, thole_plugin_list *list, thole_buffer *room, thole_status *status);

  /* Writes a new random key (checkpoint.h) into a new file of mode 0600. [may block]
   * Fails: THOLE_EXISTS (KeyExists: never overwrites), THOLE_DENIED, StoreFull, StoreGone. */
  thole_code (*key_new)(thole_core core, thole_str path, thole_status *status);
} thole_core_api;

/* --- The root. -------------------------------------------------------------------------------------------------- */

struct thole_gang_api;
struct thole_checkpoint_api;
struct thole_job_api;
struct thole_device_api;
struct thole_partition_api;
struct thole_metrics_api;
struct thole_recovery_api;

/* All services. A pointer is NULL where this build does not have the service; a service that is there has every slot
 * within its struct_size filled. The tables live as long as the process. Those after `checkpoint` are drafts
 * (thole/draft/NAME.h, THOLE_ENABLE_DRAFT): their layout may change with any minor, so they are NULL unless the host asked
 * for exactly this library's minor. A table has at most 12 slots when it is first released. Since 0.1. */
typedef struct thole_root {
  uint64_t struct_size; /* sized: append-only */
  uint32_t abi_major;
  uint32_t abi_minor;
  thole_str version; /* the product's, such as "0.1.0", for people */
  const thole_core_api *core;
  const struct thole_gang_api *gang;
  const struct thole_checkpoint_api *checkpoint;
  const struct thole_job_api *job;
  const struct thole_device_api *device;
  const struct thole_partition_api *partition;
  const struct thole_metrics_api *metrics;
  const struct thole_recovery_api *recovery;
} thole_root;

/* The only symbol that a host looks up. The arguments are the host's THOLE_ABI_MAJOR and THOLE_ABI_MINOR.
 * Answers NULL with AbiUnsupported if the majors differ, or if this library's minor is older.
 * Takes no lock, allocates nothing, and may be called from any thread and in a forked child. */
THOLE_EXPORT const thole_root *thole_entry_v1(uint32_t abi_major, uint32_t abi_minor, thole_status *status);
typedef const thole_root *(*thole_entry_v1_fn)(uint32_t abi_major, uint32_t abi_minor, thole_status *status);
#define THOLE_ENTRY_SYMBOL "thole_entry_v1"

#ifdef __cplusplus
}
#endif
#endif
