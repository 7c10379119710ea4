/* thole/draft/job.h: the job file and the pool file, read the same way on every platform.
 *
 * DRAFT: may change with any minor. A file is YAML or JSON, at most 1 MiB; docs/reference/job-file.md is its reference.
 * Reading is strict: an unknown field, a wrong unit or a duplicate key is an error with its place and the nearest word.
 * What comes back is canonical JSON with every default filled in: what a controller stores, a script prints, a test
 * compares. Nothing is looked up outside the text: stores and keys are names here, bound by the platform.
 */
#ifndef THOLE_DRAFT_JOB_H
#define THOLE_DRAFT_JOB_H
#ifndef THOLE_ENABLE_DRAFT
#error "thole/draft/job.h is a draft: define THOLE_ENABLE_DRAFT and expect changes"
#endif

#include <thole/gang.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Something that a person should know about their file. */
typedef struct thole_note {
  uint64_t struct_size; /* sized */
  uint32_t line;        /* 1 is the first; 0 where there is no place */
  uint32_t column;      /* in characters, 1 is the first */
  thole_str field;      /* "spec.roles[0].vgpu.memory" */
  thole_str reason;     /* reasons.h */
  thole_str message;
  uint32_t error;       /* 1: the file is refused; 0: a remark (converted, defaulted, ignored by this platform) */
  uint32_t reserved;
} thole_note;

typedef struct thole_document {
  uint64_t struct_size; /* sized */
  thole_str kind;       /* "TrainingJob", "NodePool" */
  thole_str name;       /* metadata.name */
  thole_str json;       /* canonical; empty if there is an error */
  thole_list notes;     /* of thole_note, in the order of the file; all errors that were found, at most 100 */
} thole_document;

/* The calls are pure: core may be {0}. */
typedef struct thole_job_api {
  uint64_t struct_size; /* sized: append-only */

  /* Reads a TrainingJob or a NodePool. `platform` is "local", "slurm", "kubernetes", "ray", or empty for all: remarks say
   * what that one ignores. On errors the answer is THOLE_INVALID with the first error in `status`, and document->notes
   * has all of them. */
  thole_code (*read)(thole_core core, thole_str text, thole_str platform, thole_document *document, thole_buffer *room,
                     thole_status *status);

  /* The gang request of a canonical TrainingJob. */
  thole_code (*gang)(thole_core core, thole_str job_json, thole_id gang, thole_gang_request *request,
                     thole_buffer *room, thole_status *status);

  /* The nodes (thole_node) of a canonical NodePool: simulated ones with made-up UUIDs (SIM-...). Where the pool is not
   * simulated, `gpus` (thole_gpu) are what the machine has, and they become one node named `node`. *levels (thole_str) are the pool's, for
   * set_levels. A pool whose vGPUs do not fit its GPUs fails with PoolDoesNotFit, and what would fit. */
  thole_code (*nodes)(thole_core core, thole_str pool_json, thole_str node, const thole_list *gpus,
                      thole_list *levels, thole_list *nodes, thole_buffer *room, thole_status *status);

  /* The JSON Schema (2020-12, within what Kubernetes calls structural) of "TrainingJob" or "NodePool". */
  thole_code (*schema)(thole_core core, thole_str kind, thole_str *json, thole_buffer *room, thole_status *status);
} thole_job_api;

#ifdef __cplusplus
}
#endif
#endif
