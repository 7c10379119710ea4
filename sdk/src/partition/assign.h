// partition/assign.h: a member's placement as settings of its node: record and environment.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "partition/record.h"

namespace thole::partition {

// A device of the placement.
struct granted {
  std::string uuid;
  thole_device_kind kind = THOLE_KIND_NONE;
  uint32_t share_milli = 0;
  uint64_t memory_mib = 0;
  std::string mig_profile;
  thole_mig_place mig{};
  bool simulated = false;
};

// Who gets something.
struct member {
  id128 gang;
  uint64_t attempt = 0;
  uint64_t generation = 0;
  std::string node;
  std::string role;
  uint32_t index = 0;
  std::vector<granted> devices;
};

struct assignment {
  std::string record;
  std::vector<std::string> environment;  // "NAME=value"
  backend held_by = backend::none;       // the weakest
};

// PlanBad; MigInstanceMissing.
result<assignment> assign(const member &m);

}  // namespace thole::partition
