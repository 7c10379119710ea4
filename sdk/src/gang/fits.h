// gang/fits.h: how many members of a kind each node and each domain takes, and where they are tightest. Remembered from
// call to call; what has changed since costs its own number of nodes, not that of the cluster.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "gang/ledger.h"

namespace thole::gang {

// Keys in a row, and the least of any stretch of it: node i of the tree is the least of 2i and 2i + 1.
class least_tree {
 public:
  static constexpr uint64_t none = ~uint64_t{0};

  void assign(const std::vector<uint64_t> &keys);
  void set(uint32_t place, uint64_t key) noexcept;
  uint64_t least() const noexcept { return tree_[1]; }

  // The keys of a stretch from the least on, until f(key) is false; none is left out. Nothing may be set meanwhile.
  template <class F>
  void ascend(uint32_t begin, uint32_t end, F &&f) const;

 private:
  std::vector<uint64_t> tree_{none, none};
  uint32_t width_ = 1;  // a power of two
};

// For one kind of member.
class fit_index {
 public:
  explicit fit_index(const model::member_want &want) : want_(want) {}

  // Everything below is of the state that was followed last.
  const fit_index &follow(const ledger &state);

  uint32_t on(uint32_t node) const noexcept { return fits_[node]; }
  uint64_t room(int level, uint32_t domain) const noexcept;

  // Domains of a level by (room, domain).
  using order = std::set<std::pair<uint64_t, uint32_t>>;
  const order &by_room(int level);

  // The nodes of a domain with room for one at least, the least room first, ties by node, until f(node) is false.
  // Members without devices go to nodes with GPUs last.
  template <class F>
  void tightest_first(const model::topology &tree, int level, uint32_t domain, F &&f) const;

 private:
  friend class fit_memory;

  // One level of the topology, from the cluster to the nodes.
  struct level_rooms {
    std::vector<uint64_t> room;  // of each domain; not at the level of nodes, whose room is fits_
    std::optional<order> sorted;
    std::vector<uint64_t> as_sorted;  // what `sorted` has of each domain
    std::vector<uint32_t> stale;      // domains whose room may be another by now, each once
    std::vector<bool> is_stale;
  };

  void count_all(const ledger &state);
  void recount(const ledger &state, uint32_t node) noexcept;
  uint64_t key_of(const ledger &state, uint32_t node) const noexcept;
  level_rooms &at(int level) { return levels_[static_cast<std::size_t>(level + 1)]; }
  const level_rooms &at(int level) const { return levels_[static_cast<std::size_t>(level + 1)]; }

  const model::member_want want_;
  std::vector<uint32_t> fits_;
  std::vector<uint64_t> stamps_;  // for which fits_ is so; they start at 1
  std::vector<level_rooms> levels_;
  least_tree tightest_;  // by place in the topology
  uint64_t touches_ = 0;
  uint64_t topology_ = 0;
  uint64_t last_use_ = 0;
};

class fit_memory {
 public:
  // The most memory that one more vGPU could have on one GPU now.
  uint64_t largest_hole(const ledger &state);

  // Valid until `most_kinds` others have been asked for: a gang has at most THOLE_MAX_ROLES.
  fit_index &of(const model::member_want &want);

 private:
  static constexpr std::size_t most_kinds = 2 * THOLE_MAX_ROLES;
  void forget_oldest();

  std::map<model::member_want, fit_index> kinds_;
  uint64_t uses_ = 0;
  least_tree holes_;  // of each node, upside down
  uint64_t hole_touches_ = 0;
  uint64_t hole_topology_ = 0;
};

template <class F>
void least_tree::ascend(uint32_t begin, uint32_t end, F &&f) const {
  // Trees not yet looked into, the one with the least key on top.
  std::vector<std::pair<uint64_t, uint32_t>> heap;
  const auto add = [&](uint32_t i) {
    if (tree_[i] == none) return;
    heap.emplace_back(tree_[i], i);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (uint32_t b = begin + width_, e = end + width_; b < e; b /= 2, e /= 2) {
    if (b % 2 == 1) add(b++);
    if (e % 2 == 1) add(--e);
  }
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    auto [key, i] = heap.back();
    heap.pop_back();
    while (i < width_) {
      i *= 2;
      if (tree_[i] != key) ++i;
      add(i ^ 1);
    }
    if (!f(key)) return;
  }
}

template <class F>
void fit_index::tightest_first(const model::topology &tree, int level, uint32_t domain, F &&f) const {
  const auto nodes = tree.members(level, domain);
  if (nodes.empty()) return;
  // The nodes of a domain stand together in the topology, and its first one is the first of them.
  const uint32_t begin = tree.order(nodes.front());
  tightest_.ascend(begin, begin + static_cast<uint32_t>(nodes.size()),
                   [&](uint64_t key) { return f(static_cast<uint32_t>(key)); });
}

}  // namespace thole::gang
