/* srun, sbatch and salloc: the options. They are checked here so that the user hears at once, and again in slurmctld,
 * because nobody has to use these programs. */
#include "spank_thole.h"

#include <inttypes.h>
#include <slurm/slurm_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/quantity.h"

enum { option_thole = 1, option_memory, option_share };

struct asked asked;

/* With `remote` it is called in slurmstepd, twice for srun: that something was asked for is all that counts there. The
 * value is not the job's: of a heterogeneous job the last component's reaches all of them. */
static int take_option(int which, const char *text, int remote) {
  char why[longest_why] = "";
  const char *value = text ? text : "";
  asked.anything = 1;
  if (remote) return 0;
  if (which == option_memory) {
    asked.memory = 1;
    if (parse_memory(value, &asked.memory_mib, why, sizeof why) == 0) return 0;
    slurm_error("thole: UnitBad: --thole-vgpu-memory: %s", why);
    return -1;
  }
  if (which == option_share && parse_share(value, &asked.share_milli, why, sizeof why) != 0) {
    slurm_error("thole: FieldBad: --thole-vgpu-share: %s", why);
    return -1;
  }
  return 0;
}

static struct spank_option options[] = {
    {"thole", NULL, "Thole: give the job's tasks the environment of a Thole job, also without a vGPU", 0, option_thole,
     take_option},
    {"thole-vgpu-memory", "SIZE",
     "Thole: memory of each task's vGPU, such as 10Gi; --ntasks-per-node or -N with -n say how many", 1, option_memory,
     take_option},
    {"thole-vgpu-share", "PERCENT", "Thole: part of a GPU's compute that each vGPU claims, such as 25 or 12.5", 1,
     option_share, take_option},
};

int register_options(spank_t sp) {
  memset(&asked, 0, sizeof asked);
  for (size_t i = 0; i < sizeof options / sizeof options[0]; ++i)
    if (spank_option_register(sp, &options[i]) != ESPANK_SUCCESS) {
      slurm_error("thole: the option --%s cannot be registered", options[i].name);
      return -1;
    }
  return 0;
}

static int set_control(spank_t sp, const char *name, uint64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, value);
  return spank_job_control_setenv(sp, name, text, 1) == ESPANK_SUCCESS ? 0 : -1;
}

/* A step lives on what its job was given; Slurm hands it the job's own options as if they had been written again.
 * Whoever gets around this only gets around the sentence: the cap comes from the record. */
static int differs(const char *name, uint64_t value) {
  const char *of_job = getenv(name);
  uint64_t given = 0;
  return value > 0 && (of_job == NULL || parse_number(of_job, UINT64_MAX, &given) != 0 || given != value);
}

static int asks_for_more(void) {
  return differs("SLURM_SPANK_THOLE_VGPU_MEMORY", asked.memory_mib) ||
         differs("SLURM_SPANK_THOLE_VGPU_SHARE", asked.share_milli);
}

int hand_over(spank_t sp) {
  if (!asked.anything) return 0;
  if (asked.share_milli > 0 && !asked.memory) {
    slurm_error(
        "thole: FieldMissing: --thole-vgpu-share says how much of a GPU's compute a vGPU claims: "
        "--thole-vgpu-memory must be given with it");
    return -1;
  }
  if (spank_context() == S_CTX_LOCAL && getenv("SLURM_JOB_ID") != NULL && asks_for_more()) {
    slurm_error(
        "thole: NativeOverrides: a step runs within what its job was given: leave out the --thole options here, and "
        "ask "
        "for it with sbatch or salloc");
    return -1;
  }
  int failed = set_control(sp, "THOLE", 1);
  if (asked.memory) failed |= set_control(sp, "THOLE_VGPU_MEMORY", asked.memory_mib);
  if (asked.share_milli > 0) failed |= set_control(sp, "THOLE_VGPU_SHARE", asked.share_milli);
  if (failed) slurm_error("thole: Defect: Slurm does not take the options");
  return failed ? -1 : 0;
}
