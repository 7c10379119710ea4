// model/gang.h: what is asked for a gang, and what is proposed or held. Plain values in the words of the contract;
// texts are views: of the caller's memory on the way in, of the ledger's names (which outlive every call) on the way
// out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/id.h"
#include "base/status.h"
#include "model/device.h"

namespace thole::model {

// A wish for one domain of a level.
struct nearness {
  std::string_view level;
  bool required = false;
};

struct role {
  std::string_view name;
  uint32_t members = 1;
  uint32_t min_members = 0;       // check() makes 0 what it means
  uint32_t ranks_per_member = 0;  // the same
  device_kind kind = device_kind::none;
  uint32_t devices = 0;
  uint32_t share_milli = 0;
  uint64_t vgpu_memory_mib = 0;
  std::string_view mig_profile;
  std::string_view gpu_model;
  std::string_view label;
  uint64_t cpu_milli = 0;
  uint64_t memory_mib = 0;
  std::vector<nearness> topology;
};

struct gang_request {
  id128 gang;
  std::vector<role> roles;
  std::vector<nearness> topology;
};

// Fills in defaults and refuses what contradicts itself (RequestBad, OverBound).
result<> check(gang_request &request);

struct named_grant {
  std::string_view uuid;
  device_kind kind = device_kind::none;
  uint32_t share_milli = 0;
  uint64_t memory_mib = 0;
  std::string_view profile;
  mig_placement mig;
  uint32_t flags = 0;  // of the GPU
  uint64_t context_mib = 0;
};

struct placement {
  uint32_t role = 0;
  uint32_t member = 0;
  uint32_t first_rank = 0;
  uint32_t ranks = 0;
  std::string_view node;
  uint32_t first_grant = 0;  // in gang_plan.grants
  uint32_t grants = 0;
};

enum class gang_state : int32_t {
  none = THOLE_GANG_NONE,
  reserved = THOLE_GANG_RESERVED,
  confirmed = THOLE_GANG_CONFIRMED
};

struct gang_plan {
  id128 gang;
  gang_state state = gang_state::none;
  uint32_t ranks = 0;
  uint64_t revision = 0;
  int64_t expires_ns = 0;
  std::vector<placement> placements;
  std::vector<named_grant> grants;
};

// Whether the placements have the form that the request wants: members, kinds, sizes (PlanBad). That they fit and keep
// their domains, the ledger says. What is adopted may have fewer members than the minimum.
result<> check(const gang_plan &plan, const gang_request &request, bool adopt);

}  // namespace thole::model
