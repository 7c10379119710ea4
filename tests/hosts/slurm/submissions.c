/* Submits COUNT held jobs, one after the other, and prints the seconds that it took. Without a process for each, so
 * that what is measured is slurmctld. ASK is "thole" (a vGPU of 1 GiB, as our options ask for it) or "shards" (the same
 * by hand). */
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
#define SHARDS "gres/shard:1"
#else
#define SHARDS "gres:shard:1"
#endif

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const long count = strtol(argv[1], NULL, 10);
  char *environment[] = {"PATH=/usr/bin:/bin"};
  char *asked[] = {"THOLE=1", "THOLE_VGPU_MEMORY=1024"};
  struct timespec begun;
  struct timespec ended;
  clock_gettime(CLOCK_MONOTONIC, &begun);
  for (long i = 0; i < count; ++i) {
    job_desc_msg_t job;
    submit_response_msg_t *response = NULL;
    slurm_init_job_desc_msg(&job);
    job.name = "held";
    job.priority = 0;
    job.user_id = 0;
    job.group_id = 0;
    job.min_nodes = 1;
    job.work_dir = "/";
    job.script = "#!/bin/sh\ntrue\n";
    job.environment = environment;
    job.env_size = 1;
    if (strcmp(argv[2], "thole") == 0) {
      job.spank_job_env = asked;
      job.spank_job_env_size = 2;
    } else {
      job.tres_per_node = SHARDS;
    }
    if (slurm_submit_batch_job(&job, &response) != SLURM_SUCCESS) {
      fprintf(stderr, "submission %ld: %s\n", i, slurm_strerror(slurm_get_errno()));
      return 1;
    }
    slurm_free_submit_response_response_msg(response);
  }
  clock_gettime(CLOCK_MONOTONIC, &ended);
  printf("%.6f\n", (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9);
  return 0;
}
