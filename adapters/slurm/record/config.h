/* record/config.h: thole.conf, the few things that the parts on Slurm must agree on. docs/reference/slurm.md lists
 * them. */
#ifndef THOLE_SLURM_CONFIG_H
#define THOLE_SLURM_CONFIG_H

#include <stddef.h>
#include <stdint.h>

enum { longest_path = 1024, longest_why = 512 };

struct slurm_config {
  uint64_t shard_mib;         /* memory of a shard */
  uint64_t largest_mib;       /* of the largest GPU of the cluster */
  char state[longest_path];   /* folder of a node's records; %n is the node's name */
  char gpus[longest_path];    /* file that lists a node's GPUs; %n likewise */
  char library[longest_path]; /* libthole.so.0 for the jobs; empty: the package finds its own */
};

/* Reads a file of lines `name = value`. Returns 0, or -1 with a sentence in `why`. */
int read_config(const char *path, struct slurm_config *config, char *why, size_t size);

/* Replaces %n. Returns 0, or -1 if it gets too long. */
int expand_node(const char *pattern, const char *node, char *path, size_t size);

#endif
