/* slurmstepd, in the child that becomes a task. What it is told comes out of the record that root wrote, never out of
 * an option: options can be forged, overridden by a step, and of a heterogeneous job are those of the last component.
 *
 * task_init_privileged is the only hook that refuses. A failure elsewhere ends, depending on Slurm's version, in a job
 * that is said to be completed, or in a drained node. */
#include "spank_thole.h"

#include <inttypes.h>
#include <slurm/slurm_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/quantity.h"
#include "record/record.h"

#define EXPORTED __attribute__((visibility("default")))

#define BATCH_STEP 0xfffffffbu

static struct known known;
static struct slurm_config config;
static int is_ours;

static void find_node(spank_t sp, char *node, size_t size) {
  const char *own = getenv("SLURMD_NODENAME");
  if (own != NULL) {
    snprintf(node, size, "%s", own);
  } else if (spank_getenv(sp, "SLURMD_NODENAME", node, (int)size) != ESPANK_SUCCESS) {
    if (gethostname(node, size) != 0) node[0] = 0;
    node[size - 1] = 0;
    node[strcspn(node, ".")] = 0;
  }
}

static uint64_t number_in(spank_t sp, const char *name, uint64_t otherwise) {
  char text[64];
  uint64_t value = 0;
  if (spank_getenv(sp, name, text, sizeof text) != ESPANK_SUCCESS) return otherwise;
  text[strcspn(text, "-,")] = 0; /* "12001-12003" */
  return parse_number(text, UINT32_MAX, &value) == 0 ? value : otherwise;
}

static int refuse(const char *why) {
  slurm_spank_log("thole: %s", why);
  slurm_error("thole: task refused: %s", why);
  return -1;
}

/* The job's shards on this node, as slurmctld counts them, can only have become fewer than the record says if somebody
 * changed the job after it was submitted. */
static int shards_agree(spank_t sp, uint32_t step) {
  const uint64_t now = number_in(sp, "SLURM_SHARDS_ON_NODE", UINT64_MAX);
  return step != BATCH_STEP || now == UINT64_MAX || config.shard_mib == 0 || known.total_mib == 0 ||
         now * config.shard_mib >= known.total_mib;
}

EXPORTED int slurm_spank_task_init_privileged(spank_t sp, int argc, char **argv) {
  char node[longest_name];
  char state[longest_path];
  char why[longest_why] = "";
  uint32_t job = 0;
  uint32_t step = 0;
  is_ours = 0;
  if (spank_get_item(sp, S_JOB_ID, &job) != ESPANK_SUCCESS || spank_get_item(sp, S_JOB_STEPID, &step) != ESPANK_SUCCESS)
    return 0;
  if (read_config(config_path(argc, argv), &config, why, sizeof why) != 0) return asked.anything ? refuse(why) : 0;
  find_node(sp, node, sizeof node);
  if (node_state(&config, node, state, sizeof state) != 0)
    return asked.anything ? refuse("the node's name is too long") : 0;
  const int found = read_known(state, job, &known, why, sizeof why);
  if (found < 0) return refuse(why);
  if (found > 0)
    return asked.anything ? refuse(
                                "this node has no allocation record of the job: it was submitted without a --thole "
                                "option, or the prolog did not run (PrologFlags=Alloc,Contain)")
                          : 0;
  if (!shards_agree(sp, step)) return refuse("the job's shards were changed after it was submitted: submit it again");
  is_ours = 1;
  return 0;
}

/* --- The environment of docs/reference/job-environment.md. -------------------------------------------------------- */

/* "rack[1-2]n[07,09]" -> "rack1n07". */
static void first_host(const char *list, char *host, size_t size) {
  size_t used = 0;
  int inside = 0;
  int skip = 0;
  for (; *list && used + 1 < size; ++list) {
    if (*list == '[') inside = 1;
    else if (*list == ']') inside = skip = 0;
    else if (*list == ',' && !inside) break;
    else if (inside && (*list == '-' || *list == ',')) skip = 1;
    else if (!skip) host[used++] = *list;
  }
  host[used] = 0;
}

static void set_text(spank_t sp, const char *name, const char *value, int overwrite) {
  spank_setenv(sp, name, value, overwrite);
}

static void set_number(spank_t sp, const char *name, uint64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, value);
  set_text(sp, name, text, 1);
}

/* The same on all nodes of a step, and another one in each attempt. Where MpiParams=ports= is set, Slurm reserves one.
 */
static uint64_t rendezvous_port(spank_t sp, uint32_t job, uint32_t step) {
  const uint64_t reserved = number_in(sp, "SLURM_STEP_RESV_PORTS", 0);
  const uint32_t words[3] = {job, step, (uint32_t)known.attempt};
  return reserved != 0 ? reserved : 10000 + crc32_of(words, sizeof words) % 20000;
}

static void set_master(spank_t sp, uint32_t job, uint32_t step) {
  char list[4096];
  char host[longest_name];
  if (spank_getenv(sp, "SLURM_STEP_NODELIST", list, sizeof list) == ESPANK_SUCCESS && step != BATCH_STEP)
    first_host(list, host, sizeof host);
  else find_node(sp, host, sizeof host);
  set_text(sp, "MASTER_ADDR", host, 1);
  set_number(sp, "MASTER_PORT", rendezvous_port(sp, job, step));
}

/* A batch script is a task by itself, whatever its job's srun will start. */
static void set_ranks(spank_t sp, uint32_t step) {
  uint32_t locals = 1;
  const int alone = step == BATCH_STEP;
  const uint64_t each = number_in(sp, "THOLE_RANKS_PER_MEMBER", 1);
  if (!alone) spank_get_item(sp, S_JOB_LOCAL_TASK_COUNT, &locals);
  const uint64_t rank = alone ? 0 : number_in(sp, "SLURM_PROCID", 0) * each;
  const uint64_t local = alone ? 0 : number_in(sp, "SLURM_LOCALID", 0);
  char visible[8192];
  visible_devices(&known, (uint32_t)local, locals, visible, sizeof visible);
  set_text(sp, "CUDA_VISIBLE_DEVICES", visible, 1);
  if (visible[0] != 0) set_text(sp, "CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
  set_number(sp, "RANK", rank);
  set_number(sp, "WORLD_SIZE", alone ? 1 : number_in(sp, "SLURM_NTASKS", 1) * each);
  set_number(sp, "LOCAL_RANK", local * each);
  set_number(sp, "LOCAL_WORLD_SIZE", locals * each);
  set_number(sp, "NODE_RANK", alone ? 0 : number_in(sp, "SLURM_NODEID", 0));
  if (each > 1) set_number(sp, "THOLE_FIRST_RANK", rank);
  char path[longest_path + 64];
  snprintf(path, sizeof path, "%s/metrics/rank-%" PRIu64 ".metrics", known.folder, rank);
  if (!alone) set_text(sp, "THOLE_METRICS", path, 1);
}

EXPORTED int slurm_spank_task_init(spank_t sp, int argc, char **argv) {
  (void)argc;
  (void)argv;
  char text[longest_path + 16];
  uint32_t job = 0;
  uint32_t step = 0;
  if (!is_ours) return 0;
  spank_get_item(sp, S_JOB_ID, &job);
  spank_get_item(sp, S_JOB_STEPID, &step);
  set_ranks(sp, step);
  set_master(sp, job, step);
  set_number(sp, "THOLE_ATTEMPT", known.attempt);
  snprintf(text, sizeof text, "%s/record", known.folder);
  set_text(sp, "THOLE_RECORD", text, 1);
  /* What the job's script has set itself stays. */
  set_text(sp, "THOLE_RUN", known.run, 0);
  if (config.library[0] != 0) set_text(sp, "THOLE_LIBRARY", config.library, 0);
  if (spank_getenv(sp, "SLURM_JOB_NAME", text, sizeof text) == ESPANK_SUCCESS) set_text(sp, "THOLE_JOB", text, 0);
  return 0;
}
