// gang/fits.h: how many members of a kind each node takes, remembered from call to call and counted again only where
// the node has changed.
#pragma once

#include <algorithm>
#include <map>
#include <vector>

#include "gang/ledger.h"

namespace thole::gang {

// For one kind of member.
class fit_counts {
 public:
  // The nodes may have become more or fewer; their stamps tell the rest.
  void resize(uint32_t nodes) {
    fits_.resize(nodes, 0);
    seen_.resize(nodes, 0);
  }
  uint32_t on(const ledger &state, const model::member_want &want, uint32_t node) {
    if (const uint64_t stamp = state.stamp(node); seen_[node] != stamp) {
      fits_[node] = model::fits(state.at(node), want);
      seen_[node] = stamp;
    }
    return fits_[node];
  }

 private:
  friend class fit_memory;
  std::vector<uint32_t> fits_;
  std::vector<uint64_t> seen_;  // stamps start at 1
  uint64_t last_use_ = 0;
};

class fit_memory {
 public:
  // The most memory that one more vGPU could have on one GPU now.
  uint64_t largest_hole(const ledger &state) {
    holes_.resize(state.nodes());
    int64_t most = 0;
    for (uint32_t n = 0; n < state.nodes(); ++n) {
      auto &[hole, seen] = holes_[n];
      if (seen != state.stamp(n)) {
        hole = 0;
        seen = state.stamp(n);
        if (state.at(n).open())
          for (const model::gpu &g : state.at(n).gpus) hole = std::max(hole, g.hole_mib());
      }
      most = std::max(most, hole);
    }
    return static_cast<uint64_t>(most);
  }

  // Valid until `most_kinds` others have been asked for: a gang has at most THOLE_MAX_ROLES.
  fit_counts &of(const model::member_want &want, uint32_t nodes) {
    auto it = kinds_.find(want);
    if (it == kinds_.end()) {
      if (kinds_.size() >= most_kinds) forget_oldest();
      it = kinds_.emplace(want, fit_counts{}).first;
    }
    it->second.last_use_ = ++uses_;
    it->second.resize(nodes);
    return it->second;
  }

 private:
  static constexpr std::size_t most_kinds = 64;
  void forget_oldest() {
    auto oldest = kinds_.begin();
    for (auto it = kinds_.begin(); it != kinds_.end(); ++it)
      if (it->second.last_use_ < oldest->second.last_use_) oldest = it;
    kinds_.erase(oldest);
  }
  std::map<model::member_want, fit_counts> kinds_;
  std::vector<std::pair<int64_t, uint64_t>> holes_;  // of each node, and the stamp for which it is so
  uint64_t uses_ = 0;
};

}  // namespace thole::gang
