/* slurmd's prolog and epilog of a job on this node, as root, each in a process of its own in which only job, user and
 * group are known. What the job was given stands in SPANK_THOLE_ALLOCATION, which job_submit_thole wrote; with
 * PrologFlags=Alloc it comes from slurmctld and not from a user's srun.
 *
 * A failure here drains the node: it is for faults of the node only. A user's bad request never gets this far. */
#include "spank_thole.h"

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/quantity.h"
#include "record/record.h"

#define EXPORTED __attribute__((visibility("default")))

struct allocation {
  char run[41];
  unsigned tasks;
  unsigned long long shards; /* of each task; 0: whole GPUs, or none */
  unsigned long long unit;
  unsigned share;
};

static int read_allocation(const char *text, struct allocation *a) {
  return sscanf(text, "1 run=%40s tasks=%u shards=%llu unit=%llu share=%u", a->run, &a->tasks, &a->shards, &a->unit,
                &a->share) == 5 &&
                 a->tasks >= 1 && a->tasks <= most_devices
             ? 0
             : -1;
}

static uint32_t number_of_node(const char *list, const char *node) {
  if (list == NULL) return 0;
  __typeof__(slurm_hostlist_create("")) hosts = slurm_hostlist_create(list);
  if (hosts == NULL) return 0;
  const int at = slurm_hostlist_find(hosts, node);
  slurm_hostlist_destroy(hosts);
  return at < 0 ? 0 : (uint32_t)at;
}

/* The parts of one GPU, one for each task: Slurm puts all shards that a job has on a node onto one GPU. */
static int give_parts(const char *file, const char *gpus, const struct allocation *a, struct given *g, char *why,
                      size_t size) {
  struct node_gpu gpu;
  uint64_t index = 0;
  if (parse_number(gpus, UINT32_MAX, &index) != 0) {
    snprintf(why, size,
             "Slurm gave shards of the GPUs '%.60s': one GPU of a node is expected; remove "
             "MULTIPLE_SHARING_GRES_PJ from SelectTypeParameters",
             gpus);
    return -1;
  }
  if (find_gpu(file, index, &gpu, why, size) != 0) return -1;
  for (unsigned i = 0; i < a->tasks; ++i) {
    struct given_device *d = &g->devices[g->count++];
    memcpy(d->uuid, gpu.uuid, sizeof d->uuid);
    d->memory_mib = a->shards * a->unit;
    d->share_milli = a->share;
  }
  return 0;
}

static int give_whole(const char *file, const char *gpus, struct given *g, char *why, size_t size) {
  char list[longest_path];
  char *rest = NULL;
  snprintf(list, sizeof list, "%s", gpus);
  for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
    struct node_gpu gpu;
    uint64_t index = 0;
    if (parse_number(word, UINT32_MAX, &index) != 0 || g->count == most_devices) {
      snprintf(why, size, "SLURM_JOB_GPUS is '%.60s': a list of numbers is expected", gpus);
      return -1;
    }
    if (find_gpu(file, index, &gpu, why, size) != 0) return -1;
    struct given_device *d = &g->devices[g->count++];
    memcpy(d->uuid, gpu.uuid, sizeof d->uuid);
    d->whole = 1;
    d->memory_mib = gpu.memory_mib;
    d->share_milli = 1000;
  }
  return 0;
}

static int fill(spank_t sp, const struct slurm_config *config, const struct allocation *a, struct given *g, char *why,
                size_t size) {
  char file[longest_path];
  const char *gpus = getenv("SLURM_JOB_GPUS");
  const char *restarts = getenv("SLURM_JOB_RESTART_COUNT");
  const char *node = getenv("SLURMD_NODENAME");
  uint64_t lives_before = 0;
  snprintf(why, size, "slurmd's prolog lacks SLURMD_NODENAME or SLURM_JOB_RESTART_COUNT");
  if (node == NULL || restarts == NULL || parse_number(restarts, UINT32_MAX, &lives_before) != 0) return -1;
  snprintf(g->node, sizeof g->node, "%.253s", node);
  snprintf(why, size, "the job is not known");
  if (spank_get_item(sp, S_JOB_ID, &g->job) != ESPANK_SUCCESS ||
      spank_get_item(sp, S_JOB_UID, &g->uid) != ESPANK_SUCCESS ||
      spank_get_item(sp, S_JOB_GID, &g->gid) != ESPANK_SUCCESS)
    return -1;
  derive_run(a->run, g->job, g->run);
  g->attempt = lives_before + 1;
  g->member = number_of_node(getenv("SLURM_NODELIST"), node);
  g->tasks = a->tasks;
  if (gpus == NULL || *gpus == 0) {
    snprintf(why, size, "the job has shards, and slurmd names no GPU for them: gres.conf needs File= for each");
    return a->shards > 0 ? -1 : 0;
  }
  if (expand_node(config->gpus, node, file, sizeof file) != 0) return -1;
  return a->shards > 0 ? give_parts(file, gpus, a, g, why, size) : give_whole(file, gpus, g, why, size);
}

static int this_node(const struct slurm_config *config, char *state, size_t size) {
  const char *node = getenv("SLURMD_NODENAME");
  return node_state(config, node ? node : "", state, size);
}

EXPORTED int slurm_spank_job_prolog(spank_t sp, int argc, char **argv) {
  static struct given given;
  struct slurm_config config;
  struct allocation a;
  char state[longest_path];
  char why[longest_why] = "the state folder's path is too long";
  const char *text = getenv("SPANK_" THOLE_ALLOCATION);
  if (text == NULL) return 0;
  memset(&given, 0, sizeof given);
  if (read_allocation(text, &a) != 0) {
    slurm_error("thole: SPANK_" THOLE_ALLOCATION " is '%.100s', which this version does not read", text);
    return -1;
  }
  if (read_config(config_path(argc, argv), &config, why, sizeof why) != 0 ||
      this_node(&config, state, sizeof state) != 0 || fill(sp, &config, &a, &given, why, sizeof why) != 0 ||
      write_given(state, &given, why, sizeof why) != 0) {
    slurm_error("thole: prolog: %s", why);
    return -1;
  }
  return 0;
}

/* Whether the prolog ran, was killed in the middle or ran twice: afterwards there is nothing. Where there is no
 * configuration there was no record. */
EXPORTED int slurm_spank_job_epilog(spank_t sp, int argc, char **argv) {
  struct slurm_config config;
  char state[longest_path];
  char why[longest_why] = "the state folder's path is too long";
  uint32_t job = 0;
  if (spank_get_item(sp, S_JOB_ID, &job) != ESPANK_SUCCESS) return -1;
  if (read_config(config_path(argc, argv), &config, why, sizeof why) != 0) return 0;
  if (this_node(&config, state, sizeof state) == 0 && remove_given(state, job, why, sizeof why) == 0) return 0;
  slurm_error("thole: epilog: %s", why);
  return -1;
}
