/* thole/gang.h: place every member of a gang at once, or none, and keep the one ledger of devices.
 *
 *     set_nodes -> plan -> reserve -> confirm ... release          a device goes: free -> reserved -> confirmed -> free
 *                     \-> explain         \-> cancel
 *
 * A gang has roles; a role has members; a member is what the platform places as one (a pod, a task, a process): it sits
 * on one node, holds k devices there and runs n >= 1 ranks. A device of a member is a whole GPU, a MIG instance or a
 * vGPU (a memory cap and a share of compute). Placement is decided in integers, in one transaction on one state, and
 * equal states give equal plans on every machine: best fit, ties by the nodes' names in byte order and by the order of the
 * GPUs that the node lists.
 *
 * plan changes nothing. reserve takes a plan (from plan, or from the host's own database after a restart) and holds it
 * under the gang's id, if it still fits. So a host that dies in between loses a reservation at most, and one that repeats
 * a call changes nothing twice. Sizes are MiB (2^20 bytes) and thousandths of a core or of a GPU's compute.
 *
 * The service does not launch, watch or preempt anything.
 */
#ifndef THOLE_GANG_H
#define THOLE_GANG_H

#include <thole/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bounds: a call beyond one of them is THOLE_INVALID with OverBound. */
#define THOLE_MAX_LEVELS 6u             /* levels of the topology above the node           */
#define THOLE_MAX_NODES 65536u
#define THOLE_MAX_GPUS 32u              /* of a node                                       */
#define THOLE_MAX_ROLES 16u             /* roles of a gang                                 */
#define THOLE_MAX_MEMBERS 65536u        /* members of a gang                               */
#define THOLE_MAX_RANKS_PER_MEMBER 64u
#define THOLE_MAX_NAME 253u             /* bytes of the name of a node, domain, model, role or profile */
#define THOLE_MAX_UUID 95u              /* bytes of a GPU's uuid                           */
#define THOLE_MAX_PROFILES 64u          /* MIG profiles of a GPU, and places of a profile  */
#define THOLE_MAX_VGPUS 4096u           /* vGPUs that may share a GPU                      */
#define THOLE_MAX_LABELS 256u           /* of a node                                       */

/* --- What there is. --------------------------------------------------------------------------------------------- */

/* A MIG profile that a GPU offers, with the places where an instance may lie, as the device reports them
 * (nvmlDeviceGetGpuInstancePossiblePlacements). */
typedef struct thole_mig_place { /* frozen */
  uint32_t start; /* first memory slice */
  uint32_t size;  /* memory slices */
} thole_mig_place;

typedef struct thole_mig_profile {
  uint64_t struct_size; /* sized */
  thole_str name;       /* such as "1g.18gb" */
  uint64_t memory_mib;  /* what an instance can give to its holder */
  uint32_t count;       /* instances of this profile that the GPU holds at most */
  uint32_t share_milli; /* thousandths of the GPU's compute */
  thole_list placements; /* of thole_mig_place, in the device's order */
} thole_mig_profile;

#define THOLE_GPU_SIMULATED 1u /* no hardware behind it; every output says so                                       */
#define THOLE_GPU_UNHEALTHY 2u /* holds what it holds, takes nothing new                                             */
#define THOLE_GPU_MIG 4u       /* in MIG mode: takes MIG instances only. Without it: whole or vGPU only             */
#define THOLE_GPU_OVERCOMMITTED 8u /* out only: adopted allocations hold more than it has                           */

/* One physical GPU. Its uuid is unique in the ledger. */
typedef struct thole_gpu {
  uint64_t struct_size;  /* sized */
  thole_str uuid;        /* "GPU-..." as the driver says it, or "SIM-...": printable ASCII without space or comma */
  thole_str model;       /* "NVIDIA H200" */
  uint64_t memory_mib;   /* what the device reports as its own, the driver's reserve already taken off */
  uint64_t context_mib;  /* what a process's context costs beside its cap; charged once for each vGPU */
  uint32_t flags;        /* THOLE_GPU_* */
  uint32_t max_vgpus;    /* vGPUs that may share it; 0 means 16 */
  thole_list mig;        /* of thole_mig_profile */
} thole_gpu;

#define THOLE_NODE_CORDONED 1u /* keeps what it has, takes nothing new */

typedef struct thole_node {
  uint64_t struct_size; /* sized */
  thole_str name;
  thole_list domains;   /* of thole_str: the node's domain at each level, outermost first; as many as set_levels said */
  uint64_t cpu_milli;   /* thousandths of a core that members may use */
  uint64_t memory_mib;
  uint32_t flags;       /* THOLE_NODE_* */
  uint32_t reserved;
  thole_list gpus;      /* of thole_gpu, in the order that breaks ties */
  thole_list labels;    /* of thole_str, at most THOLE_MAX_LABELS: what a role can ask for, such as "ssd" */
} thole_node;

/* --- What is wanted. -------------------------------------------------------------------------------------------- */

typedef int32_t thole_device_kind;
enum { THOLE_KIND_NONE = 0, THOLE_KIND_WHOLE = 1, THOLE_KIND_VGPU = 2, THOLE_KIND_MIG = 3 };

typedef int32_t thole_topology_mode;
enum {
  THOLE_TOPOLOGY_REQUIRED = 1, /* one domain of the level, or it does not fit */
  THOLE_TOPOLOGY_PREFERRED = 2 /* one domain if it can be, else the next wider level */
};

typedef struct thole_topology {
  uint64_t struct_size; /* sized */
  thole_str level;      /* a name from set_levels, or "node" */
  thole_topology_mode mode;
  uint32_t reserved;
} thole_topology;

typedef struct thole_role {
  uint64_t struct_size; /* sized */
  thole_str name;
  uint32_t members;          /* wanted, >= 1 */
  uint32_t min_members;      /* fewer are no gang; 0 means `members`. Between the two the plan takes as many as fit */
  uint32_t ranks_per_member; /* 0 means 1 */
  thole_device_kind device_kind;
  uint32_t devices;          /* a member's; 0 exactly if device_kind is THOLE_KIND_NONE. A rank uses one device, and a
                              * process sees a GPU once, so vGPUs of one member lie on different GPUs */
  uint32_t vgpu_share_milli; /* thousandths of a GPU's compute, 1..1000; 0 claims none */
  uint64_t vgpu_memory_mib;  /* cap of each vGPU */
  thole_str mig_profile;
  thole_str gpu_model;       /* only on this model; empty means any */
  uint64_t cpu_milli;        /* a member's */
  uint64_t memory_mib;
  thole_list topology;       /* of thole_topology: for the members of this role among themselves */
  thole_str label;           /* only on nodes that have it; empty means any */
} thole_role;

/* The elastic members are taken after all minima are placed, role by role in the order given. */
typedef struct thole_gang_request {
  uint64_t struct_size; /* sized */
  thole_id gang;        /* the caller's name for it; not zero */
  thole_list roles;     /* of thole_role, 1..THOLE_MAX_ROLES */
  thole_list topology;  /* of thole_topology: for all members together. Several: from outer to inner levels */
} thole_gang_request;

/* --- What was found. -------------------------------------------------------------------------------------------- */

/* A device that a member holds. */
typedef struct thole_grant {
  uint64_t struct_size; /* sized */
  thole_str uuid;       /* of the GPU */
  thole_device_kind kind;
  uint32_t share_milli; /* of the GPU's compute; 1000 for a whole one */
  uint64_t memory_mib;  /* the cap; for a whole GPU all that it reports */
  thole_str mig_profile;
  thole_mig_place mig;
  uint32_t flags;       /* THOLE_GPU_* of the GPU */
  uint32_t reserved;
  uint64_t context_mib; /* of the GPU */
} thole_grant;

typedef struct thole_placement {
  uint64_t struct_size; /* sized */
  uint32_t role;        /* index in the request */
  uint32_t member;      /* index in the role: 0, 1, ... without holes, but for adopted members (THOLE_RESERVE_ADOPT) */
  uint32_t first_rank;  /* global; ranks are dense, in the order of roles and members */
  uint32_t ranks;
  thole_str node;
  thole_list grants;    /* of thole_grant */
} thole_placement;

typedef int32_t thole_gang_state;
enum { THOLE_GANG_NONE = 0, THOLE_GANG_RESERVED = 1, THOLE_GANG_CONFIRMED = 2 };

/* A proposal (from plan), or what is held (from query). */
typedef struct thole_plan {
  uint64_t struct_size; /* sized */
  thole_id gang;
  thole_gang_state state;
  uint32_t ranks;        /* of the whole gang */
  uint64_t revision;     /* of the ledger on which it was made */
  int64_t expires_ns;    /* of a reservation; 0 means never */
  thole_list placements; /* of thole_placement, in the order of (role, member) */
} thole_plan;

typedef struct thole_plan_list {
  uint64_t struct_size; /* sized */
  thole_list plans;     /* of thole_plan, in the order of the gangs' ids */
} thole_plan_list;

typedef int32_t thole_fit;
enum {
  THOLE_FIT_NO = 0,
  THOLE_FIT_YES = 1,
  THOLE_FIT_UNDECIDED = 2 /* neither found nor disproved within the search's bound                                    */
};

/* Why a request cannot be placed now: the tightest constraint, with numbers. */
typedef struct thole_explanation {
  uint64_t struct_size; /* sized */
  thole_fit fits;       /* THOLE_FIT_YES leaves the rest empty. What the gang itself holds counts as taken */
  uint32_t needed;      /* members that must lie in one domain of `level` */
  uint32_t available;   /* members that the best domain can take */
  uint32_t role;        /* the first role that does not fit */
  thole_str level;      /* "cluster", a level, or "node" */
  thole_str domain;     /* the best domain */
  thole_str reason;     /* GangNoFitInCluster, GangNoFitInDomain, DeviceTooSmall, ... (reasons.h) */
  thole_str message;    /* a sentence with the numbers, and with the largest hole */
  thole_list blockers;  /* of thole_blocker: what the other domains and nodes lack, most frequent first */
  uint64_t largest_hole_mib; /* the most memory that one more vGPU could have on one GPU now */
} thole_explanation;

typedef struct thole_blocker {
  uint64_t struct_size; /* sized */
  thole_str what;       /* "gpu memory", "cpu", "cordoned", "no such model", ... */
  uint64_t nodes;       /* nodes that lack it first */
} thole_blocker;

/* One GPU of the ledger. */
typedef struct thole_gpu_use {
  uint64_t struct_size; /* sized */
  thole_str node;
  thole_str uuid;
  thole_str model;
  uint32_t flags;            /* THOLE_GPU_* */
  uint32_t holders;          /* members that hold a part of it */
  uint64_t memory_mib;       /* all of it */
  uint64_t free_memory_mib;  /* what one more vGPU could have, its context already taken off */
  uint32_t free_share_milli;
  uint32_t reserved;
} thole_gpu_use;

typedef struct thole_usage {
  uint64_t struct_size; /* sized */
  uint64_t revision;    /* of the ledger; grows with every change */
  uint64_t digest;      /* of what is known and held, not of how it came about: equal ledgers give equal digests */
  thole_list gpus;      /* of thole_gpu_use, in the order of nodes and GPUs */
} thole_usage;

/* What gangs and usage are asked for. */
typedef struct thole_gang_query {
  uint64_t struct_size; /* sized */
  int64_t now_ns;       /* reservations that have expired by then count as free */
  thole_id gang;        /* this one; zero: all */
  thole_str node;       /* only on this node; empty: all */
} thole_gang_query;

#define THOLE_RESERVE_ADOPT 1u /* the platform runs it already */

/* Times of the ledger are on one clock of the host's choice; with thole_core_options.state, which outlives a boot and is
 * shared by processes, it is Unix time. A clock that is set back makes a reservation live longer, never shorter. */
typedef struct thole_reservation {
  uint64_t struct_size; /* sized */
  int64_t now_ns;
  int64_t expires_ns;   /* after now_ns; 0 means never: for a ledger that ends with its host, else what a host that died
                         * has reserved stays held until somebody cancels it */
  uint32_t flags;       /* THOLE_RESERVE_* */
  uint32_t reserved;
} thole_reservation;

/* --- The service. Since 0.1. ------------------------------------------------------------------------------------- */

typedef struct thole_gang_api {
  uint64_t struct_size; /* sized: append-only */

  /* Names the levels of the topology, outermost first, such as {"zone", "rack"}; "node" is always there below them and
   * "cluster" above them; neither can be a level's name. Once, before the first node; the same names again are harmless.
   * Fails: THOLE_REFUSED (LevelsDiffer). */
  thole_code (*set_levels)(thole_core core, const thole_list *levels, thole_status *status);

  /* Adds nodes (thole_node), or replaces what is known of them, keyed by name. All of them or none. What gangs hold on a
   * node stays theirs, also when capacity shrinks (free is then 0, never negative) or domains change; a GPU that is held
   * and no longer listed is kept as unhealthy until it is released.
   * Fails: THOLE_INVALID (NodeBad: a name or uuid twice, domains that do not match the levels, ...). */
  thole_code (*set_nodes)(thole_core core, const thole_list *nodes, thole_status *status);

  /* Forgets a node. One on which gangs hold something takes nothing new, and is forgotten with the last release. This slot
   * and set_nodes know no time: a reservation that has expired holds its node until the next reserve, which drops it, or
   * its cancel. Unknown nodes are THOLE_OK. Names are remembered while the core lives: some 250 bytes for each. */
  thole_code (*remove_node)(thole_core core, thole_str name, thole_status *status);

  /* Finds places for the whole gang on the present state, and changes nothing. Members with equal needs are placed
   * exactly; between roles the search is bounded by nodes explored, never by time, so that the answer does not depend
   * on the machine. Reservations that have expired at `now_ns` count as free.
   * Fails: THOLE_NO_FIT (with the reason and sentence of explain), THOLE_EXISTS (the gang holds something already),
   * THOLE_INVALID (RequestBad, TopologyUnknown), THOLE_EXHAUSTED (GangSearchBound: not found within the bound, and not disproved). */
  thole_code (*plan)(thole_core core, const thole_gang_request *request, int64_t now_ns, thole_plan *plan,
                     thole_buffer *room, thole_status *status);

  /* Why plan does or would not succeed. Changes nothing, and answers THOLE_OK when the request does not fit.
   * Fails: THOLE_INVALID (RequestBad, TopologyUnknown). */
  thole_code (*explain)(thole_core core, const thole_gang_request *request, int64_t now_ns,
                        thole_explanation *explanation, thole_buffer *room, thole_status *status);

  /* Holds exactly the placements of `plan` under request->gang until confirm, cancel or release, or until it expires. Of
   * the plan it reads gang (equal to request->gang) and placements (role, member, node, grants); so a plan may come from
   * the host's own database. It is checked against the request and the present state. The same gang with the same
   * placements again, also after confirm, is THOLE_OK and changes at most the expiry of a reservation.
   * With THOLE_RESERVE_ADOPT the platform says what is running, after a restart: it is held as confirmed, whatever the
   * present state says of room, health or cordons, and in the place of what the gang held before. request gives the roles'
   * sizes; the plan may hold fewer members than min, and none for indices whose members have died. Their ranks are not
   * given to others: a first_rank that is not 0 is read, where the dead were the last of their role. A GPU that the node
   * does not list is left out (adopt again when it is back). A GPU that is held twice has no room and the flag
   * THOLE_GPU_OVERCOMMITTED in usage.
   * Fails: THOLE_CONFLICT (PlanStale: something has taken a place since), THOLE_EXISTS (GangExists: other placements are
   * held; release them first), THOLE_INVALID (PlanBad: it does not satisfy the request, or names an unknown node or GPU). */
  thole_code (*reserve)(thole_core core, const thole_gang_request *request, const thole_plan *plan,
                        const thole_reservation *reservation, thole_status *status);

  /* Makes a reservation an allocation, which does not expire. Again: THOLE_OK.
   * Fails: THOLE_NOT_FOUND (never reserved, cancelled, or expired at now_ns). */
  thole_code (*confirm)(thole_core core, thole_id gang, int64_t now_ns, thole_status *status);

  /* Gives back a reservation. Unknown gangs are THOLE_OK, so that undo may be repeated. It is not remembered: a call that
   * overtakes another may bring a gang back, so a new attempt with other placements takes a new id.
   * Fails: THOLE_REFUSED (GangConfirmed: use release). */
  thole_code (*cancel)(thole_core core, thole_id gang, thole_status *status);

  /* Gives back all that a gang holds, reserved or confirmed. Unknown gangs are THOLE_OK. Fails: nothing of its own. */
  thole_code (*release)(thole_core core, thole_id gang, thole_status *status);

  /* What gangs hold: one gang, all those with a member on one node (each is whole in the answer), or all. Reservations that
   * have expired are not there.
   * Fails: THOLE_NOT_FOUND (GangUnknown: query->gang is set and holds nothing). */
  thole_code (*gangs)(thole_core core, const thole_gang_query *query, thole_plan_list *list, thole_buffer *room,
                      thole_status *status);

  /* Every GPU of one node or of all, with what is free on it. query->gang is ignored. Fails: nothing of its own. */
  thole_code (*usage)(thole_core core, const thole_gang_query *query, thole_usage *usage, thole_buffer *room,
                      thole_status *status);
} thole_gang_api;

#ifdef __cplusplus
}
#endif
#endif
