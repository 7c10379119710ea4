#include "gang/fits.h"

#include <algorithm>
#include <bit>

namespace thole::gang {

// --- the tree

void least_tree::assign(const std::vector<uint64_t> &keys) {
  width_ = std::bit_ceil(std::max<uint32_t>(1, static_cast<uint32_t>(keys.size())));
  tree_.assign(std::size_t{2} * width_, none);
  std::copy(keys.begin(), keys.end(), tree_.begin() + width_);
  for (uint32_t i = width_ - 1; i > 0; --i) tree_[i] = std::min(tree_[2 * i], tree_[2 * i + 1]);
}

void least_tree::set(uint32_t place, uint64_t key) noexcept {
  uint32_t i = place + width_;
  tree_[i] = key;
  while (i > 1) {
    i /= 2;
    const uint64_t least = std::min(tree_[2 * i], tree_[2 * i + 1]);
    if (tree_[i] == least) return;
    tree_[i] = least;
  }
}

// --- one kind of member

const fit_index &fit_index::follow(const ledger &state) {
  const auto again = [&](uint32_t node) { recount(state, node); };
  if (topology_ != state.topology_stamp() || !state.touched_since(touches_, again)) count_all(state);
  touches_ = state.touches();
  return *this;
}

void fit_index::count_all(const ledger &state) {
  const model::topology &tree = state.topology();
  const uint32_t nodes = state.nodes();
  topology_ = 0;  // until all is done
  fits_.assign(nodes, 0);
  stamps_.assign(nodes, 0);
  levels_.assign(static_cast<std::size_t>(tree.node_level()) + 2, {});
  for (int l = model::cluster_level; l < tree.node_level(); ++l) at(l).room.assign(tree.count(l), 0);
  std::vector<uint64_t> keys(nodes, least_tree::none);
  for (uint32_t n = 0; n < nodes; ++n) {
    fits_[n] = model::fits(state.at(n), want_);
    stamps_[n] = state.stamp(n);
    keys[tree.order(n)] = key_of(state, n);
    for (int l = model::cluster_level; l < tree.node_level(); ++l) at(l).room[tree.domain(l, n)] += fits_[n];
  }
  tightest_.assign(keys);
  topology_ = state.topology_stamp();
}

void fit_index::recount(const ledger &state, uint32_t node) noexcept {
  if (stamps_[node] == state.stamp(node)) return;
  stamps_[node] = state.stamp(node);
  const uint32_t before = std::exchange(fits_[node], model::fits(state.at(node), want_));
  if (before == fits_[node]) return;
  const model::topology &tree = state.topology();
  for (int l = model::cluster_level; l <= tree.node_level(); ++l) {
    level_rooms &here = at(l);
    const uint32_t d = tree.domain(l, node);
    if (l < tree.node_level()) here.room[d] += uint64_t{fits_[node]} - before;
    if (here.sorted && !here.is_stale[d]) {
      here.stale.push_back(d);  // there is room for all of them
      here.is_stale[d] = true;
    }
  }
  tightest_.set(tree.order(node), key_of(state, node));
}

uint64_t fit_index::key_of(const ledger &state, uint32_t node) const noexcept {
  if (fits_[node] == 0) return least_tree::none;
  const uint64_t late = want_.devices == 0 && !state.at(node).gpus.empty() ? uint64_t{1} << 63 : 0;
  return late | uint64_t{fits_[node]} << 32 | node;
}

uint64_t fit_index::room(int level, uint32_t domain) const noexcept {
  const auto &rooms = at(level).room;
  return rooms.empty() ? fits_[domain] : rooms[domain];
}

const fit_index::order &fit_index::by_room(int level) {
  level_rooms &here = at(level);
  if (!here.sorted) {
    const std::size_t domains = here.room.empty() ? fits_.size() : here.room.size();
    order sorted;
    here.as_sorted.resize(domains);
    for (uint32_t d = 0; d < domains; ++d) sorted.emplace(here.as_sorted[d] = room(level, d), d);
    here.is_stale.assign(domains, false);
    here.stale.reserve(domains);
    here.sorted = std::move(sorted);
  }
  for (uint32_t d : here.stale) {
    here.is_stale[d] = false;
    if (here.as_sorted[d] == room(level, d)) continue;
    auto entry = here.sorted->extract({here.as_sorted[d], d});
    entry.value().first = here.as_sorted[d] = room(level, d);
    here.sorted->insert(std::move(entry));
  }
  here.stale.clear();
  return *here.sorted;
}

// --- all kinds

fit_index &fit_memory::of(const model::member_want &want) {
  auto it = kinds_.find(want);
  if (it == kinds_.end()) {
    if (kinds_.size() >= most_kinds) forget_oldest();
    it = kinds_.try_emplace(want, want).first;
  }
  it->second.last_use_ = ++uses_;
  return it->second;
}

void fit_memory::forget_oldest() {
  auto oldest = kinds_.begin();
  for (auto it = kinds_.begin(); it != kinds_.end(); ++it)
    if (it->second.last_use_ < oldest->second.last_use_) oldest = it;
  kinds_.erase(oldest);
}

uint64_t fit_memory::largest_hole(const ledger &state) {
  const auto upside_down = [&](uint32_t node) {
    int64_t hole = 0;
    if (state.at(node).open())
      for (const model::gpu &g : state.at(node).gpus) hole = std::max(hole, g.hole_mib());
    return ~static_cast<uint64_t>(hole);
  };
  const auto again = [&](uint32_t node) { holes_.set(node, upside_down(node)); };
  if (hole_topology_ != state.topology_stamp() || !state.touched_since(hole_touches_, again)) {
    std::vector<uint64_t> keys(state.nodes());
    for (uint32_t n = 0; n < state.nodes(); ++n) keys[n] = upside_down(n);
    hole_topology_ = 0;
    holes_.assign(keys);
    hole_topology_ = state.topology_stamp();
  }
  hole_touches_ = state.touches();
  return ~holes_.least();  // none upside down is 0
}

}  // namespace thole::gang
