/* thole/gang.h: place every member of a gang at once, or none, and keep the one ledger of devices.
 *
 *     set_nodes -> plan -> reserve -> confirm ... release          the ledger goes: free -> reserved -> held -> free
 *                     \-> explain         \-> cancel
 *
 * A gang has roles; a role has members; a member is what the platform places as one (a pod, a task, a process): it sits
 * on one node, holds k devices there and runs n >= 1 ranks. A device of a member is a whole GPU, a MIG instance or a
 * vGPU (a memory cap and a share of compute). Placement is decided in integers, in one transaction on one state, and
 * equal states give equal plans on every machine: best fit, ties by the order of nodes and devices.
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
#define THOLE_MAX_DEVICES 32u           /* GPUs of a node                                  */
#define THOLE_MAX_ROLES 16u             /* roles of a gang                                 */
#define THOLE_MAX_MEMBERS 65536u        /* members of a gang                               */
#define THOLE_MAX_RANKS_PER_MEMBER 64u
#define THOLE_MAX_NAME 253u             /* bytes of a node's, domain's or model's name     */

/* --- What there is. --------------------------------------------------------------------------------------------- */

/* A MIG profile that a GPU offers, with the places where an instance may lie, as the device reports them
 * (nvmlDeviceGetGpuInstancePossiblePlacements). */
typedef struct thole_mig_placement { /* frozen */
  uint32_t start; /* first memory slice */
  uint32_t size;  /* memory slices */
} thole_mig_placement;

typedef struct thole_mig_profile {
  uint64_t struct_size; /* sized */
  thole_str name;       /* such as "1g.18gb" */
  uint64_t memory_mib;  /* what an instance can give to its holder */
  uint32_t count;       /* instances of this profile that the GPU holds at most */
  uint32_t share_milli; /* thousandths of the GPU's compute */
  thole_list placements; /* of thole_mig_placement, in the device's order */
} thole_mig_profile;

#define THOLE_DEVICE_SIMULATED 1u /* no hardware behind it; every output says so                                       */
#define THOLE_DEVICE_UNHEALTHY 2u /* holds what it holds, takes nothing new                                             */
#define THOLE_DEVICE_MIG 4u       /* in MIG mode: takes MIG instances only. Without it: whole or vGPU only             */

typedef struct thole_device {
  uint64_t struct_size;  /* sized */
  thole_str uuid;        /* "GPU-..." as the driver says it, or "SIM-..." */
  thole_str model;       /* "NVIDIA H200" */
  uint64_t memory_mib;   /* what the device reports as its own, the driver's reserve already taken off */
  uint64_t context_mib;  /* what a process's context costs beside its cap; charged once for each vGPU */
  uint32_t flags;        /* THOLE_DEVICE_* */
  uint32_t max_vgpus;    /* vGPUs that may share it; 0 means 16 */
  thole_list mig;        /* of thole_mig_profile */
} thole_device;

#define THOLE_NODE_CORDONED 1u /* keeps what it has, takes nothing new */

typedef struct thole_node {
  uint64_t struct_size; /* sized */
  thole_str name;
  thole_list domains;   /* of thole_str: the node's domain at each level, outermost first; as many as set_levels said */
  int64_t cpu_milli;    /* thousandths of a core that members may use */
  uint64_t memory_mib;
  uint32_t flags;       /* THOLE_NODE_* */
  uint32_t reserved;
  thole_list devices;   /* of thole_device, in the order that breaks ties */
} thole_node;

/* --- What is wanted. -------------------------------------------------------------------------------------------- */

typedef int32_t thole_device_kind;
enum { THOLE_DEVICE_NONE = 0, THOLE_DEVICE_WHOLE = 1, THOLE_DEVICE_VGPU = 2, THOLE_DEVICE_MIG_INSTANCE = 3 };

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
  uint32_t devices;          /* a member's; 0 exactly if device_kind is THOLE_DEVICE_NONE */
  uint32_t vgpu_share_milli; /* thousandths of a GPU's compute, 1..1000; 0 claims none */
  uint64_t vgpu_memory_mib;  /* cap of each vGPU */
  thole_str mig_profile;
  thole_str gpu_model;       /* only on this model; empty means any */
  int64_t cpu_milli;         /* a member's */
  uint64_t memory_mib;
  thole_list topology;       /* of thole_topology: for the members of this role among themselves */
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
  thole_mig_placement mig;
} thole_grant;

typedef struct thole_placement {
  uint64_t struct_size; /* sized */
  uint32_t role;        /* index in the request */
  uint32_t member;      /* index in the role: 0, 1, ... without holes */
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
  uint64_t version;      /* of the ledger on which it was made */
  int64_t expires_ns;    /* of a reservation; 0 means never */
  thole_list placements; /* of thole_placement, in the order of (role, member) */
} thole_plan;

typedef struct thole_plan_list {
  uint64_t struct_size; /* sized */
  thole_list plans;     /* of thole_plan, in the order of the gangs' ids */
} thole_plan_list;

/* Why a request cannot be placed now: the tightest constraint, with numbers. */
typedef struct thole_explanation {
  uint64_t struct_size; /* sized */
  uint32_t fits;        /* 1 if plan would succeed; the rest is then empty */
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
typedef struct thole_device_use {
  uint64_t struct_size; /* sized */
  thole_str node;
  thole_str uuid;
  thole_str model;
  uint32_t flags;            /* THOLE_DEVICE_* */
  uint32_t holders;          /* members that hold a part of it */
  uint64_t memory_mib;       /* all of it */
  uint64_t free_memory_mib;  /* what one more vGPU could have, its context already taken off */
  uint32_t free_share_milli;
  uint32_t reserved;
} thole_device_use;

typedef struct thole_usage {
  uint64_t struct_size; /* sized */
  uint64_t version;     /* of the ledger; grows with every change */
  uint64_t digest;      /* of the whole ledger: equal histories give equal digests on every machine */
  thole_list devices;   /* of thole_device_use, in the order of nodes and devices */
} thole_usage;

/* --- The service. Since 0.1. ------------------------------------------------------------------------------------- */

typedef struct thole_gang_api {
  uint64_t struct_size; /* sized: append-only */

  /* Names the levels of the topology, outermost first, such as {"zone", "rack"}; "node" is always there below them.
   * Once, before the first node; the same names again are harmless. Fails: THOLE_CONFLICT. */
  thole_code (*set_levels)(thole_core core, const thole_list *levels, thole_status *status);

  /* Adds nodes (thole_node), or replaces what is known of them, keyed by name. All of them or none. What gangs hold on a
   * node stays theirs; a device that is held and no longer listed is kept as unhealthy until it is released.
   * Fails: THOLE_INVALID (NodeBad, OverBound). */
  thole_code (*set_nodes)(thole_core core, const thole_list *nodes, thole_status *status);

  /* Forgets a node. Fails: THOLE_NOT_FOUND; THOLE_CONFLICT with NodeInUse while a gang holds something there. */
  thole_code (*remove_node)(thole_core core, thole_str name, thole_status *status);

  /* Finds places for the whole gang on the present state, and changes nothing. Members with equal needs are placed
   * exactly; between roles the search is bounded by nodes explored, never by time, so that the answer does not depend
   * on the machine. Reservations that have expired at `now_ns` count as free.
   * Fails: THOLE_NO_FIT (with the reason and sentence of explain), THOLE_EXISTS (the gang holds something already),
   * THOLE_INVALID (RequestBad), THOLE_EXHAUSTED (GangSearchBound: not found within the bound, and not disproved). */
  thole_code (*plan)(thole_core core, const thole_gang_request *request, int64_t now_ns, thole_plan *plan,
                     thole_buffer *room, thole_status *status);

  /* Why plan does or would not succeed. Changes nothing, and answers THOLE_OK when the request does not fit. */
  thole_code (*explain)(thole_core core, const thole_gang_request *request, int64_t now_ns,
                        thole_explanation *explanation, thole_buffer *room, thole_status *status);

  /* Holds exactly the placements of `plan` under request->gang until confirm, cancel or expires_ns (on the clock of
   * `now_ns`; 0 means never). The placements are checked against the request and the present state, so a plan may come
   * from the host's database. The same gang with the same placements again answers THOLE_OK and changes nothing.
   * Fails: THOLE_CONFLICT (PlanStale: something has taken a place since), THOLE_EXISTS (other placements are held),
   * THOLE_INVALID (PlanBad: it does not satisfy the request). */
  thole_code (*reserve)(thole_core core, const thole_gang_request *request, const thole_plan *plan, int64_t now_ns,
                        int64_t expires_ns, thole_status *status);

  /* Makes a reservation an allocation, which does not expire. Again: THOLE_OK.
   * Fails: THOLE_NOT_FOUND (never reserved, cancelled, or expired at now_ns). */
  thole_code (*confirm)(thole_core core, thole_id gang, int64_t now_ns, thole_status *status);

  /* Gives back a reservation. Unknown gangs are THOLE_OK, so that undo may be repeated.
   * Fails: THOLE_CONFLICT (GangConfirmed: use release). */
  thole_code (*cancel)(thole_core core, thole_id gang, thole_status *status);

  /* Gives back all that a gang holds, reserved or confirmed. Unknown gangs are THOLE_OK. */
  thole_code (*release)(thole_core core, thole_id gang, thole_status *status);

  /* What a gang holds. Fails: THOLE_NOT_FOUND. */
  thole_code (*query)(thole_core core, thole_id gang, thole_plan *plan, thole_buffer *room, thole_status *status);

  /* All gangs that hold something. */
  thole_code (*gangs)(thole_core core, thole_plan_list *list, thole_buffer *room, thole_status *status);

  /* Every device, with what is free on it. */
  thole_code (*usage)(thole_core core, thole_usage *usage, thole_buffer *room, thole_status *status);
} thole_gang_api;

#ifdef __cplusplus
}
#endif
#endif
