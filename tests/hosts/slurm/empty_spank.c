/* A SPANK plugin that does nothing, to compare with. */
#include <slurm/spank.h>
#include <stdint.h>
#include <sys/types.h>

SPANK_PLUGIN(empty, 1)

int slurm_spank_init(spank_t sp, int argc, char **argv) {
  (void)sp;
  (void)argc;
  (void)argv;
  return 0;
}
