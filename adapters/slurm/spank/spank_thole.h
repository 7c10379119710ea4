/* spank/spank_thole.h: what the files of the plugin share. Each file is one of the processes that Slurm loads it into:
 *
 *     submit.c  srun, sbatch, salloc          options, and what job_submit_thole is told
 *     prolog.c  slurmd's spank process, root  the record is written, and removed
 *     task.c    slurmstepd                    each task's environment, out of the record
 *
 * It holds no thread, opens no core and no GPU library, and exports what Slurm looks up and nothing else.
 */
#ifndef THOLE_SPANK_H
#define THOLE_SPANK_H

#include <stdint.h>
#include <sys/types.h>
/* spank.h needs both of them, and includes neither. */
#include <slurm/spank.h>

#include "record/config.h"

/* What the user asked for on this command line, or of a step what came with it. */
struct asked {
  int anything;
  int memory; /* the option was given */
  uint64_t memory_mib;
  uint32_t share_milli;
};
extern struct asked asked;

int register_options(spank_t sp);
/* Hands the options over to job_submit_thole. */
int hand_over(spank_t sp);

/* `config=PATH` among the plugin's arguments in plugstack.conf. */
const char *config_path(int argc, char **argv);
/* The state folder of this node. */
int node_state(const struct slurm_config *config, const char *node, char *path, size_t size);

/* What job_submit_thole has written for the prolog; docs/reference/slurm.md. It is the slurmctld's word, not the
 * user's. */
#define THOLE_ALLOCATION "THOLE_ALLOCATION"
#define THOLE_ALLOCATION_FORMAT "1 run=%s tasks=%u shards=%llu unit=%llu share=%u"

#endif
