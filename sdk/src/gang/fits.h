// gang/fits.h: how many members of a kind each node takes, remembered from call to call and counted again only where
// the node has changed.
#pragma once

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
  uint64_t uses_ = 0;
};

}  // namespace thole::gang
