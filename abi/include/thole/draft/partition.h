/* thole/draft/partition.h: what a member is given on its node: the allocation record and the environment.
 *
 * DRAFT: may change with any minor. The service turns a confirmed placement into settings; it never decides who gets
 * what. The record is a small versioned text file (docs/reference/allocation-record.md) that the node's owner writes and
 * the job can only read: GPU by UUID, bytes, share, generation, and the backend that holds the cap. Whatever shows an
 * allocation shows that backend: an allocation that nothing holds says "none".
 */
#ifndef THOLE_DRAFT_PARTITION_H
#define THOLE_DRAFT_PARTITION_H
#ifndef THOLE_ENABLE_DRAFT
#error "thole/draft/partition.h is a draft: define THOLE_ENABLE_DRAFT and expect changes"
#endif

#include <thole/gang.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Who holds a cap. Ranked, strongest last. */
typedef int32_t thole_backend;
enum {
  THOLE_BACKEND_NONE = 0,      /* the cap is a promise between the ledger and the job; nothing enforces it */
  THOLE_BACKEND_SIMULATED = 1, /* there is no device                                                       */
  THOLE_BACKEND_EXCLUSIVE = 2  /* a whole GPU: there is nobody to be held off                              */
};

typedef struct thole_record_device {
  uint64_t struct_size; /* sized */
  thole_str uuid;
  thole_device_kind kind;
  uint32_t share_milli;
  uint64_t memory_mib;  /* the cap */
  thole_str mig_profile;
  thole_mig_place mig;
  thole_backend backend;
  uint32_t reserved;
} thole_record_device;

typedef struct thole_record {
  uint64_t struct_size; /* sized */
  thole_id gang;
  uint64_t attempt;
  uint64_t generation;  /* of this record; a reader takes the highest that it has seen */
  thole_str node;
  thole_str role;
  uint32_t member;
  uint32_t reserved;
  thole_list devices;   /* of thole_record_device */
} thole_record;

typedef struct thole_assignment {
  uint64_t struct_size; /* sized */
  thole_str record;     /* the bytes of the record file */
  thole_list environment; /* of thole_str "NAME=value": CUDA_VISIBLE_DEVICES and what the devices need */
  thole_backend backend;  /* the weakest of the member's devices */
  uint32_t reserved;
} thole_assignment;

/* Who gets something. */
typedef struct thole_member {
  uint64_t struct_size; /* sized */
  thole_id gang;
  uint64_t attempt;
  uint64_t generation;  /* of the record */
  thole_str role;       /* its name */
  const thole_placement *placement;
} thole_member;

/* The calls are pure: core may be {0}. */
typedef struct thole_partition_api {
  uint64_t struct_size; /* sized: append-only */
  /* What a member is given, out of its placement in a confirmed plan (wherever the platform keeps that).
   * Of the placement it reads member, node and grants; THOLE_GPU_SIMULATED of a grant decides what is simulated.
   * Fails: THOLE_INVALID (PlanBad), THOLE_UNSUPPORTED (MigInstanceMissing: the grant of a real MIG instance has the UUID
   * of its GPU and not its own; this build makes no instances). */
  thole_code (*assign)(thole_core core, const thole_member *member, thole_assignment *assignment, thole_buffer *room,
                       thole_status *status);
  /* Reads a record. Fails: THOLE_DATA_LOSS (RecordDamaged), THOLE_UNSUPPORTED (RecordNewer). */
  thole_code (*read_record)(thole_core core, thole_str text, thole_record *record, thole_buffer *room,
                            thole_status *status);
} thole_partition_api;

#ifdef __cplusplus
}
#endif
#endif
