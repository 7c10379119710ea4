/* What a first attempt looks like: the cap comes from the option. The tests show where that goes wrong. With
 * $NAIVE_FORGE in the client's environment it also says what a user would like the prolog to believe. */
#include <slurm/spank.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

SPANK_PLUGIN(naive, 1)

static char cap[32];

static int take(int which, const char *text, int remote) {
  (void)which;
  (void)remote;
  snprintf(cap, sizeof cap, "%s", text ? text : "");
  return 0;
}

static struct spank_option option = {"naive-memory", "MIB", "cap of a naive plugin", 1, 1, take};

int slurm_spank_init(spank_t sp, int argc, char **argv) {
  (void)argc;
  (void)argv;
  return spank_context() == S_CTX_SLURMD ? 0 : (int)spank_option_register(sp, &option);
}

int slurm_spank_init_post_opt(spank_t sp, int argc, char **argv) {
  (void)argc;
  (void)argv;
  const char *forged = getenv("NAIVE_FORGE");
  const spank_context_t context = spank_context();
  if (forged && (context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR))
    spank_job_control_setenv(sp, "THOLE_ALLOCATION", forged, 1);
  return 0;
}

int slurm_spank_task_init(spank_t sp, int argc, char **argv) {
  (void)argc;
  (void)argv;
  if (cap[0]) spank_setenv(sp, "NAIVE_CAP", cap, 1);
  return 0;
}
