/* thole/draft/recovery.h: what to do after an incident: a pure function of what has happened so far.
 *
 * DRAFT: may change with any minor. The platform watches, launches and counts; this service decides. The same history
 * gives the same decision, for ever. It stops: each incident without progress since the one before uses up one of
 * max_without_progress, an incident of the same cause at the same step one of max_same_cause, and every incident one of
 * max_incidents; the incident that uses up the last one is answered with STOP, so no more than max_incidents restarts are
 * ever answered (docs/adr tells the proof). Progress is a step beyond that of every earlier incident.
 */
#ifndef THOLE_DRAFT_RECOVERY_H
#define THOLE_DRAFT_RECOVERY_H
#ifndef THOLE_ENABLE_DRAFT
#error "thole/draft/recovery.h is a draft: define THOLE_ENABLE_DRAFT and expect changes"
#endif

#include <thole/core.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t thole_incident_kind;
enum {
  THOLE_INCIDENT_EXIT = 1,    /* a rank ended with a non-zero code                            */
  THOLE_INCIDENT_SIGNAL = 2,  /* a rank was killed by a signal                                */
  THOLE_INCIDENT_HANG = 3,    /* no progress within the time that the job allows              */
  THOLE_INCIDENT_START = 4,   /* a rank could not be started, or never joined                 */
  THOLE_INCIDENT_MEMORY = 5,  /* killed because memory was out                                */
  THOLE_INCIDENT_NODE = 6,    /* the node or its device is gone                               */
  THOLE_INCIDENT_EARLY = 7    /* a rank ended with 0 while others went on, and they then failed */
};

typedef struct thole_incident {
  uint64_t struct_size; /* sized */
  thole_incident_kind kind;
  uint32_t rank;        /* the first that was affected */
  int32_t code;         /* exit code, or signal; of THOLE_INCIDENT_START the errno, and 0 if the rank never joined */
  uint32_t reserved;
  uint64_t attempt;     /* in which it happened; rising */
  uint64_t step;        /* newest step that is safe in a committed checkpoint; 0 if none */
  thole_id cause;       /* equal causes have equal ids: hash of the exception's type and place; zero if unknown */
} thole_incident;

typedef struct thole_recovery_policy {
  uint64_t struct_size;        /* sized */
  uint32_t max_incidents;      /* 0 means 100 */
  uint32_t max_without_progress; /* in a row; 0 means 3 */
  uint32_t max_same_cause;     /* in a row, same cause and no progress; 0 means 2 */
  uint32_t reserved;
  int64_t min_delay_ns;        /* before a restart; doubled for each further incident without progress; 0 means none */
  int64_t max_delay_ns;        /* 0 means not limited */
} thole_recovery_policy;

typedef int32_t thole_recovery_action;
enum { THOLE_RECOVERY_RESTART = 1, THOLE_RECOVERY_STOP = 2 };

typedef struct thole_decision {
  uint64_t struct_size; /* sized */
  thole_recovery_action action;
  uint32_t without_progress; /* incidents in a row */
  int64_t delay_ns;          /* before the restart */
  thole_str reason;          /* RestartAfterIncident, StopCannotStart, StopSameCause, StopNoProgress, StopIncidentLimit */
  thole_str message;
} thole_decision;

/* The calls are pure: core may be {0}. */
typedef struct thole_recovery_api {
  uint64_t struct_size; /* sized: append-only */
  /* Decides after the last incident (thole_incident) of `history`, which is the job's whole history, oldest first; at
   * most 100,000. Pure: reads no clock and keeps nothing. Fails: THOLE_INVALID (HistoryBad: empty, or attempts that fall). */
  thole_code (*decide)(thole_core core, const thole_list *history, const thole_recovery_policy *policy,
                       thole_decision *decision, thole_buffer *room, thole_status *status);
} thole_recovery_api;

#ifdef __cplusplus
}
#endif
#endif
