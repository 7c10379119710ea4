/* record/record.h: the allocation record of docs/reference/allocation-record.md, and beside it what the tasks'
 * environment is made of. Written by root in the prolog, read before each task. Neither needs the core.
 *
 *     STATE/JOB/record      the record; the job may only read it
 *     STATE/JOB/job         lines `name value`: attempt, run, tasks (of the job on this node), total (MiB of all of
 * them) STATE/JOB/metrics/    belongs to the job's user
 */
#ifndef THOLE_SLURM_RECORD_H
#define THOLE_SLURM_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"

enum { most_devices = 256, longest_uuid = 96, longest_name = 254 };

struct given_device {
  char uuid[longest_uuid];
  int whole;           /* else a vGPU */
  uint64_t memory_mib; /* the cap */
  uint32_t share_milli;
};

/* What a job was given on a node. */
struct given {
  uint32_t job;
  uid_t uid;
  gid_t gid;
  char run[37]; /* UUID */
  uint64_t attempt;
  char node[longest_name];
  uint32_t member; /* the node's number in the job */
  uint64_t tasks;  /* of the job on this node, as it was submitted */
  uint32_t count;
  struct given_device devices[most_devices];
};

/* A GPU of this node, as the file `gpus` lists it: INDEX UUID MEMORY_MIB. */
struct node_gpu {
  char uuid[longest_uuid];
  uint64_t memory_mib;
};
int find_gpu(const char *file, uint64_t index, struct node_gpu *gpu, char *why, size_t size);

/* The folder of a job's files, below `state`. */
int job_folder(const char *state, uint32_t job, char *path, size_t size);

/* Makes the folder anew. What an earlier life of the job has left there is removed. Returns 0 or -1. */
int write_given(const char *state, const struct given *given, char *why, size_t size);

/* Removes it; that there is none is no failure. */
int remove_given(const char *state, uint32_t job, char *why, size_t size);

/* What a task needs to know. Returns 0; 1 if the job has no folder here; -1 if it is damaged or not root's own. */
struct known {
  char folder[longest_path];
  char run[37];
  uint64_t attempt;
  uint64_t tasks;
  uint64_t total_mib;
  uint32_t count;
  char uuids[most_devices][longest_uuid];
};
int read_known(const char *state, uint32_t job, struct known *known, char *why, size_t size);

/* CUDA_VISIBLE_DEVICES of the task `local` of `locals` on this node: its own devices where each task has as many, else
 * all. Real GPUs only, each once: CUDA shows nothing behind a UUID that stands twice. */
void visible_devices(const struct known *known, uint32_t local, uint32_t locals, char *text, size_t size);

/* A UUID that is this base's and this number's alone. */
void derive_run(const char *base, uint32_t number, char run[37]);

uint32_t crc32_of(const void *bytes, size_t size);

#endif
