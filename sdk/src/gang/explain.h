// gang/explain.h: why a gang cannot be placed now: the tightest constraint, with numbers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gang/search.h"

namespace thole::gang {

struct blocker {
  std::string_view what;
  uint64_t nodes = 0;
};

struct explanation {
  bool fits = false;
  reason why{};
  uint32_t needed = 0;
  uint32_t available = 0;
  uint32_t role = 0;
  std::string level;
  std::string domain;
  std::string message;
  std::vector<blocker> blockers;
  uint64_t largest_hole_mib = 0;
};

// The same nodes with nothing held, kept from one question to the next.
struct empty_twin {
  ledger nodes;
  fit_memory memory;
  std::vector<uint32_t> closed;  // nodes that are cordoned or have a sick GPU
  uint64_t shapes = 0;           // for which `closed` is so

  void be_of(const ledger &state);
};

// What the answer is found on.
struct scene {
  ledger &state;
  fit_memory &memory;
  empty_twin &empty;
};

enum class detail { sentence, all };  // all: the blockers, too

// The ledger is afterwards as it was before. `seen` is what search::run has answered for the same state: not yes.
explanation explain(scene on, const wanted &what, const model::gang_request &request, verdict seen, detail wanted);

}  // namespace thole::gang
