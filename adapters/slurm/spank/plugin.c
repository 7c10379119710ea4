/* The plugin's name, and the hooks that every process runs first. */
#include "spank_thole.h"

#include <slurm/slurm_errno.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

#pragma GCC visibility push(default)
SPANK_PLUGIN(thole, 1)
#pragma GCC visibility pop

const char *config_path(int argc, char **argv) {
  for (int i = 0; i < argc; ++i)
    if (strncmp(argv[i], "config=", 7) == 0) return argv[i] + 7;
  return "/etc/slurm/thole.conf";
}

int node_state(const struct slurm_config *config, const char *node, char *path, size_t size) {
  return expand_node(config->state, node, path, size);
}

EXPORTED int slurm_spank_init(spank_t sp, int argc, char **argv) {
  (void)argc;
  (void)argv;
  /* A failure here may look like success to the user of Slurm 22.05: nothing is decided here. */
  if (spank_context() != S_CTX_SLURMD) register_options(sp);
  return ESPANK_SUCCESS;
}

EXPORTED int slurm_spank_init_post_opt(spank_t sp, int argc, char **argv) {
  (void)argc;
  (void)argv;
  const spank_context_t context = spank_context();
  return context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR ? hand_over(sp) : ESPANK_SUCCESS;
}
