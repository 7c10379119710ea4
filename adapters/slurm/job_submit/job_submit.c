/* job_submit_thole: in slurmctld, under its locks. It checks what a user asks for, turns memory into shards, and writes
 * for the prolog what the job is given: the prolog believes nobody else. No file is read and nothing is waited for
 * after init.
 *
 * Built for the exact version of Slurm that loads it. */
#include <inttypes.h>
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "record/config.h"
#include "record/quantity.h"

#define EXPORTED __attribute__((visibility("default")))

/* Exported by Slurm's library, and in no header that is installed. */
extern char *slurm_xstrdup(const char *text);
extern void slurm_xfree(void **item);
extern void slurm_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern int slurm_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern slurm_conf_t slurm_conf;

EXPORTED const char plugin_name[] = "Thole: vGPUs as shards";
EXPORTED const char plugin_type[] = "job_submit/thole";
EXPORTED const uint32_t plugin_version = SLURM_VERSION_NUMBER;

/* How a TRES is written changed between these two. */
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
#define SHARD_TRES "gres/shard:"
#else
#define SHARD_TRES "gres:shard:"
#endif

enum { most_tasks = 256 };

static struct slurm_config config;

struct request {
  int ours;
  uint64_t memory_mib;
  uint64_t share_milli;
  uint64_t tasks;  /* on each node */
  uint64_t shards; /* of each task */
  char why[longest_why];
};

static int has_prolog_flags(void) {
  return (slurm_conf.prolog_flags & PROLOG_FLAG_ALLOC) != 0 && (slurm_conf.prolog_flags & PROLOG_FLAG_CONTAIN) != 0;
}

static int refuse(char **err_msg, const char *why) {
  if (err_msg) *err_msg = slurm_xstrdup(why);
  return ESLURM_INVALID_GRES;
}

/* The number behind NAME= in one of the variables that the SPANK plugin has set; a client may send anything. */
static int take_number(const char *entry, const char *name, uint64_t most, uint64_t *value) {
  const size_t size = strlen(name);
  if (strncmp(entry, name, size) != 0 || entry[size] != '=') return 0;
  return parse_number(entry + size + 1, most, value) == 0 && *value > 0 ? 1 : -1;
}

static int read_request(const job_desc_msg_t *d, struct request *r) {
  uint64_t one = 0;
  memset(r, 0, sizeof *r);
  for (uint32_t i = 0; i < d->spank_job_env_size; ++i) {
    const char *entry = d->spank_job_env[i];
    if (strncmp(entry, "THOLE", 5) != 0) continue;
    r->ours = 1;
    const int known[] = {take_number(entry, "THOLE", 1, &one),
                         take_number(entry, "THOLE_VGPU_MEMORY", 1ull << 30, &r->memory_mib),
                         take_number(entry, "THOLE_VGPU_SHARE", 1000, &r->share_milli)};
    if (known[0] + known[1] + known[2] == 1) continue;
    snprintf(r->why, sizeof r->why, "thole: FieldBad: '%.60s' is nothing that the --thole options say", entry);
    return -1;
  }
  return 0;
}

/* How many tasks a node gets, since Slurm counts shards by the node. Of vGPUs it must be known beforehand; whole GPUs,
 * or none, are Slurm's to spread. */
static int count_tasks(job_desc_msg_t *d, struct request *r) {
  const int has_tasks = d->num_tasks != NO_VAL && d->num_tasks > 1;
  const int has_nodes = d->min_nodes != NO_VAL && d->min_nodes > 0;
  const int fixed = has_nodes && (d->max_nodes == d->min_nodes || d->max_nodes == NO_VAL || d->max_nodes == 0);
  r->tasks = 1;
  if (d->ntasks_per_node != NO_VAL16 && d->ntasks_per_node > 0) {
    r->tasks = d->ntasks_per_node;
  } else if (has_tasks && fixed && d->num_tasks % d->min_nodes == 0) {
    r->tasks = d->num_tasks / d->min_nodes;
  } else if (has_tasks && r->memory_mib > 0) {
    snprintf(r->why, sizeof r->why,
             "thole: RequestBad: how many of the %" PRIu32
             " tasks share a node is not said: add --ntasks-per-node, or -N "
             "with as many nodes as divide them",
             d->num_tasks);
    return -1;
  }
  if (r->tasks > most_tasks) {
    snprintf(r->why, sizeof r->why, "thole: OverBound: %" PRIu64 " tasks on a node; %d are the most", r->tasks,
             most_tasks);
    return -1;
  }
  if (r->memory_mib > 0) d->ntasks_per_node = (uint16_t)r->tasks;
  return 0;
}

/* Shards enough for the memory, and for the claim on compute: the shards of a GPU never add up to more than the GPU, so
 * neither do its shares. */
static int count_shards(struct request *r) {
  const uint64_t of_gpu = config.largest_mib / config.shard_mib;
  const uint64_t for_memory = (r->memory_mib + config.shard_mib - 1) / config.shard_mib;
  const uint64_t for_share = (r->share_milli * of_gpu + 999) / 1000;
  r->shards = for_memory > for_share ? for_memory : for_share;
  if (r->shards * r->tasks <= of_gpu) return 0;
  char wanted[32];
  char largest[32];
  memory_text(r->shards * config.shard_mib, wanted, sizeof wanted);
  memory_text(of_gpu * config.shard_mib, largest, sizeof largest);
  if (r->shards > of_gpu)
    snprintf(r->why, sizeof r->why,
             "thole: DeviceTooSmall: a vGPU of %s is larger than any GPU here, of which the largest "
             "has %s",
             wanted, largest);
  else
    snprintf(r->why, sizeof r->why,
             "thole: DeviceTooSmall: %" PRIu64
             " vGPUs of %s do not fit one GPU, of which the largest here has %s, and the "
             "tasks of a node share one: use more nodes, at most %" PRIu64 " tasks on each",
             r->tasks, wanted, largest, of_gpu / r->shards);
  return -1;
}

static int mentions_gpu(const char *tres) {
  return tres != NULL && (strstr(tres, "gpu") || strstr(tres, "shard") || strstr(tres, "mps"));
}

static int check_gres(const job_desc_msg_t *d, struct request *r) {
  const char *all[] = {d->tres_per_node, d->tres_per_job, d->tres_per_socket, d->tres_per_task};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i) {
    const int both = r->memory_mib > 0 && mentions_gpu(all[i]);
    const int shared = r->memory_mib == 0 && all[i] && (strstr(all[i], "shard") || strstr(all[i], "mps"));
    if (both)
      snprintf(r->why, sizeof r->why,
               "thole: RolesContradict: --thole-vgpu-memory and '%.60s' exclude each other: a job has "
               "vGPUs or GPUs",
               all[i]);
    else if (shared)
      snprintf(r->why, sizeof r->why, "thole: RolesContradict: '%.60s' by hand: ask for it with --thole-vgpu-memory",
               all[i]);
    if (both || shared) return -1;
  }
  return 0;
}

static void set_shards(job_desc_msg_t *d, uint64_t shards) {
  char text[1024];
  const char *others = d->tres_per_node;
  snprintf(text, sizeof text, "%.900s%s" SHARD_TRES "%" PRIu64, others ? others : "", others ? "," : "", shards);
  slurm_xfree((void **)&d->tres_per_node);
  d->tres_per_node = slurm_xstrdup(text);
}

/* One entry in the place of all that the client has sent of ours. */
static int set_allocation(job_desc_msg_t *d, const struct request *r) {
  uint64_t random[2];
  char run[40];
  char text[256];
  if (getrandom(random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random) return -1;
  snprintf(run, sizeof run, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
  snprintf(text, sizeof text,
           "THOLE_ALLOCATION=1 run=%s tasks=%" PRIu64 " shards=%" PRIu64 " unit=%" PRIu64 " share=%" PRIu64, run,
           r->tasks, r->shards, config.shard_mib, r->share_milli);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < d->spank_job_env_size; ++i) {
    if (strncmp(d->spank_job_env[i], "THOLE", 5) == 0) slurm_xfree((void **)&d->spank_job_env[i]);
    else d->spank_job_env[kept++] = d->spank_job_env[i];
  }
  /* There was at least one of ours, so there is room for this one. */
  d->spank_job_env[kept++] = slurm_xstrdup(text);
  for (uint32_t i = kept; i < d->spank_job_env_size; ++i) d->spank_job_env[i] = NULL;
  d->spank_job_env_size = kept;
  return 0;
}

EXPORTED int job_submit(job_desc_msg_t *d, uint32_t submit_uid, char **err_msg) {
  struct request r;
  (void)submit_uid;
  if (read_request(d, &r) != 0) return refuse(err_msg, r.why);
  if (!r.ours) return SLURM_SUCCESS;
  if (!has_prolog_flags())
    return refuse(err_msg,
                  "thole: PrologFlags=Alloc,Contain is missing in slurm.conf: nothing would hold the job to its vGPU");
  if (r.share_milli > 0 && r.memory_mib == 0)
    return refuse(err_msg, "thole: FieldMissing: --thole-vgpu-share needs --thole-vgpu-memory");
  if (check_gres(d, &r) != 0 || count_tasks(d, &r) != 0) return refuse(err_msg, r.why);
  if (r.memory_mib > 0) {
    if (count_shards(&r) != 0) return refuse(err_msg, r.why);
    set_shards(d, r.shards * r.tasks);
  }
  return set_allocation(d, &r) == 0 ? SLURM_SUCCESS : refuse(err_msg, "thole: SystemCallFailed: no random numbers");
}

/* What a job was given is fixed when it is submitted: later changes would part the record from the allocation. */
static int modify(const job_desc_msg_t *d, char **err_msg) {
  const char *all[] = {d->tres_per_node, d->tres_per_job, d->tres_per_socket, d->tres_per_task};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i)
    if (all[i] && strstr(all[i], "shard"))
      return refuse(err_msg,
                    "thole: the shards of a job are fixed when it is submitted: cancel it, and submit it again");
  return SLURM_SUCCESS;
}

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 2, 0)
EXPORTED int job_modify(job_desc_msg_t *d, void *job, uint32_t submit_uid, char **err_msg) {
  (void)job;
  (void)submit_uid;
  return modify(d, err_msg);
}
#else
EXPORTED int job_modify(job_desc_msg_t *d, void *job, uint32_t submit_uid) {
  (void)job;
  (void)submit_uid;
  return modify(d, NULL);
}
#endif

/* Beside slurm.conf, unless $THOLE_SLURM_CONF says where. */
static void find_config(char *path, size_t size) {
  const char *own = getenv("THOLE_SLURM_CONF");
  const char *slurm = slurm_conf.slurm_conf ? slurm_conf.slurm_conf : "/etc/slurm/slurm.conf";
  const char *slash = strrchr(slurm, '/');
  if (own != NULL) snprintf(path, size, "%s", own);
  else snprintf(path, size, "%.*s/thole.conf", slash ? (int)(slash - slurm) : 0, slurm);
}

/* slurmctld does not start if this fails: the log says why. */
EXPORTED int init(void) {
  char path[longest_path];
  char why[longest_why];
  find_config(path, sizeof path);
  if (read_config(path, &config, why, sizeof why) != 0) {
    slurm_error("thole: %s", why);
    return SLURM_ERROR;
  }
  if (!has_prolog_flags()) {
    slurm_error(
        "thole: PrologFlags=Alloc,Contain must be in slurm.conf: without Alloc the prolog would believe what a user's "
        "srun "
        "says, and the cap of a vGPU would be what the user likes");
    return SLURM_ERROR;
  }
  slurm_info("thole: a shard is %" PRIu64 " MiB, the largest GPU has %" PRIu64, config.shard_mib,
             config.largest_mib / config.shard_mib);
  return SLURM_SUCCESS;
}

EXPORTED int fini(void) {
  return SLURM_SUCCESS;
}
