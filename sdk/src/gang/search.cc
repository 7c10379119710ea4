#include "gang/search.h"

#include <algorithm>
#include <functional>
#include <map>

#include "gang/pack.h"

namespace thole::gang {

using model::cluster_level;

search::search(ledger &state, fit_memory &memory, const wanted &what, uint64_t bound)
    : state_(state), what_(what), budget_(bound), chosen_(what.roles.size(), 0) {
  for (const wanted_role &r : what.roles) indices_.push_back(&memory.of(r.want));
}

verdict search::run() {
  target t{what_.widest, {}, {}};
  for (const wanted_role &r : what_.roles) {
    t.levels.push_back(r.widest);
    t.members.push_back(r.least);
  }
  bool unsure = false;
  for (t.level = what_.narrowest; t.level >= what_.widest; --t.level) {
    const verdict v = feasible(t);
    unsure = unsure || v == verdict::unknown;
    if (v != verdict::yes) continue;
    tighten(t);
    grow(t);
    if (alone()) place_alone(t);
    return verdict::yes;
  }
  return unsure ? verdict::unknown : verdict::no;
}

void search::tighten(target &t) {
  for (std::size_t r = 0; r < what_.roles.size(); ++r) {
    const int widest = t.levels[r];
    // What lies in one domain of the gang's level does so at every wider one.
    for (int level = what_.roles[r].narrowest; level > std::max(widest, t.level); --level) {
      t.levels[r] = level;
      if (feasible(t) == verdict::yes) break;
      t.levels[r] = widest;
    }
  }
}

void search::grow(target &t) {
  for (std::size_t r = 0; r < what_.roles.size(); ++r) {
    const uint64_t room = std::min<uint64_t>(what_.roles[r].most, widest(r, std::max(t.level, t.levels[r])).room);
    uint32_t low = t.members[r];
    auto high = static_cast<uint32_t>(std::max<uint64_t>(room, low));
    // All of them first: it is the usual answer, and for a role alone always the right one.
    for (uint32_t n = high; low < high; n = low + (high - low + 1) / 2) {
      t.members[r] = n;
      if (feasible(t) == verdict::yes) low = n;
      else high = n - 1;
    }
    t.members[r] = low;
  }
}

search::candidate search::widest(std::size_t role, int level) {
  index(role);
  const fit_index::order &order = indices_[role]->by_room(level);
  if (order.empty()) return {0, 0};
  const auto [room, domain] = *order.lower_bound({order.rbegin()->first, 0});
  return {room, domain};
}

std::vector<search::candidate> search::candidates(std::size_t role, int level, int above_level, uint32_t above,
                                                  uint64_t least) {
  const model::topology &tree = state_.topology();
  const fit_index &rooms = index(role);
  std::vector<candidate> out;
  const auto add = [&](uint32_t d) {
    if (const uint64_t room = rooms.room(level, d); room >= std::max<uint64_t>(least, 1)) out.push_back({room, d});
  };
  if (level == above_level) {
    add(above);
  } else if (above_level == cluster_level) {
    for (uint32_t d = 0; d < tree.count(level); ++d) add(d);
  } else {
    for (uint32_t n : tree.members(above_level, above))
      if (const uint32_t d = tree.domain(level, n); tree.members(level, d).front() == n) add(d);
  }
  return out;
}

verdict search::feasible(const target &t) {
  trying_.pieces.clear();
  trying_.grants.clear();
  if (alone()) return tightest_domain(t) == ledger::no_node ? verdict::no : verdict::yes;
  // Domains in which each role alone has room; a role of a narrower level needs one such domain below.
  const model::topology &tree = state_.topology();
  std::vector<candidate> all(tree.count(t.level));
  std::vector<uint32_t> roles_with_room(all.size(), 0);
  for (uint32_t d = 0; d < all.size(); ++d) all[d] = {0, d};
  for (std::size_t r = 0; r < what_.roles.size(); ++r) {
    std::vector<uint8_t> counted(all.size(), 0);
    for (const candidate &c : candidates(r, std::max(t.level, t.levels[r]), cluster_level, 0, t.members[r])) {
      const uint32_t d = tree.domain(t.level, tree.members(std::max(t.level, t.levels[r]), c.domain).front());
      all[d].room += c.room;
      roles_with_room[d] += counted[d] == 0 ? 1 : 0;
      counted[d] = 1;
    }
  }
  std::erase_if(all, [&](const candidate &c) { return roles_with_room[c.domain] < what_.roles.size(); });
  std::sort(all.begin(), all.end());
  bool unsure = false;
  for (const candidate &c : all) {
    const verdict v = inside(t, c.domain);
    if (v == verdict::yes) return v;
    unsure = unsure || v == verdict::unknown;
  }
  return unsure ? verdict::unknown : verdict::no;
}

// One role: a domain holds it exactly if the counts of its nodes sum up to it.
uint32_t search::tightest_domain(const target &t) {
  index(0);
  const fit_index::order &order = indices_[0]->by_room(std::max(t.level, t.levels[0]));
  const auto best = order.lower_bound({std::max(t.members[0], 1u), 0});
  return best == order.end() ? ledger::no_node : best->second;
}

void search::place_alone(const target &t) {
  const std::size_t mark = state_.mark();
  fill(0, std::max(t.level, t.levels[0]), tightest_domain(t), t.members[0]);
  state_.rollback(mark);
  std::swap(found_, trying_);
}

// The role with the least room first: the others can more easily go around it.
verdict search::inside(const target &t, uint32_t domain) {
  if (!resources_suffice(t, domain)) return verdict::no;
  std::vector<std::pair<uint64_t, std::size_t>> room;
  for (std::size_t r = 0; r < what_.roles.size(); ++r) room.emplace_back(index(r).room(t.level, domain), r);
  std::sort(room.begin(), room.end());
  std::vector<std::size_t> order;
  for (const auto &[sum, r] : room) order.push_back(r);

  const std::size_t mark = state_.mark();
  effort tries(1024);
  verdict v = try_greedy(t, domain, order, 0, tries);
  if (v == verdict::yes) found_ = trying_;
  state_.rollback(mark);
  trying_.pieces.clear();
  trying_.grants.clear();
  return v == verdict::yes ? v : try_exact(t, domain, order, 0);
}

// Sums that must suffice however the members lie; a cheap "no" for large clusters.
bool search::resources_suffice(const target &t, uint32_t domain) const {
  int64_t cpu = 0, memory = 0, whole = 0;
  for (std::size_t r = 0; r < what_.roles.size(); ++r) {
    const model::member_want &w = what_.roles[r].want;
    cpu += t.members[r] * w.cpu_milli;
    memory += t.members[r] * w.memory_mib;
    if (w.device.kind == model::device_kind::whole) whole += int64_t{t.members[r]} * w.devices;
  }
  const model::device_want any{model::device_kind::whole, 0, 0, 0, 0};
  for (uint32_t n : state_.topology().members(t.level, domain)) {
    const model::machine &m = state_.at(n);
    if (!m.open()) continue;
    cpu -= std::max<int64_t>(0, m.cpu_milli - m.used_cpu);
    memory -= std::max<int64_t>(0, m.memory_mib - m.used_memory);
    if (whole > 0)
      for (const model::gpu &g : m.gpus) whole -= slots(g, any);
    if (cpu <= 0 && memory <= 0 && whole <= 0) return true;
  }
  return cpu <= 0 && memory <= 0 && whole <= 0;
}

verdict search::try_greedy(const target &t, uint32_t domain, std::span<const std::size_t> order, std::size_t at,
                           effort &tries) {
  if (at == order.size()) return verdict::yes;
  const std::size_t r = order[at];
  const int level = std::max(t.level, t.levels[r]);
  auto rooms = candidates(r, level, t.level, domain, t.members[r]);
  std::sort(rooms.begin(), rooms.end());
  for (const candidate &c : rooms) {
    if (!tries.spend()) return verdict::unknown;
    const std::size_t mark = state_.mark(), pieces = trying_.pieces.size(), grants = trying_.grants.size();
    fill(r, level, c.domain, t.members[r]);
    const verdict v = try_greedy(t, domain, order, at + 1, tries);
    if (v != verdict::no) return v;
    state_.rollback(mark);
    trying_.pieces.resize(pieces);
    trying_.grants.resize(grants);
  }
  return verdict::no;
}

// The nodes with the least room first, each to its brim. CPU-only members keep off nodes with GPUs while they can.
void search::fill(std::size_t role, int level, uint32_t domain, uint32_t members) {
  const model::member_want &want = what_.roles[role].want;
  const fit_index &before = index(role);
  before.tightest_first(state_.topology(), level, domain, [&](uint32_t node) {
    for (uint32_t here = std::min(members, before.on(node)); here > 0; --here, --members) {
      const auto first = static_cast<uint32_t>(trying_.grants.size());
      state_.place(node, want, trying_.grants);
      trying_.pieces.push_back({static_cast<uint32_t>(role), node, first, want.devices});
    }
    return members > 0;
  });
}

// Every choice of one domain for each role; the split of the members over the nodes is then exact.
verdict search::try_exact(const target &t, uint32_t domain, std::span<const std::size_t> order, std::size_t at) {
  if (at == order.size()) return split_exactly(t, domain);
  const std::size_t r = order[at];
  const int level = std::max(t.level, t.levels[r]);
  auto rooms = candidates(r, level, t.level, domain, t.members[r]);
  std::sort(rooms.begin(), rooms.end());
  bool unsure = false;
  for (const candidate &c : rooms) {
    if (!budget_.spend()) return verdict::unknown;
    chosen_[r] = c.domain;
    const verdict v = try_exact(t, domain, order, at + 1);
    if (v == verdict::yes) return v;
    unsure = unsure || v == verdict::unknown;
  }
  return unsure ? verdict::unknown : verdict::no;
}

verdict search::split_exactly(const target &t, uint32_t domain) {
  const model::topology &tree = state_.topology();
  const std::size_t roles = what_.roles.size();
  const auto allowed = [&](std::size_t r, uint32_t node) {
    return tree.domain(std::max(t.level, t.levels[r]), node) == chosen_[r];
  };
  std::vector<uint32_t> nodes;
  for (uint32_t n : tree.members(t.level, domain))
    for (std::size_t r = 0; r < roles; ++r)
      if (allowed(r, n) && fits(r, n) > 0) {
        nodes.push_back(n);
        break;
      }
  // Memory of the search: `nodes` times the demand, at most.
  if (!budget_.spend(nodes.size())) return verdict::unknown;
  std::vector<model::member_want> wants;
  for (const wanted_role &r : what_.roles) wants.push_back(r.want);
  std::map<std::pair<uint32_t, counts>, verdict> packed;
  cover split(
      static_cast<uint32_t>(nodes.size()), t.members,
      [&](uint32_t b, uint32_t r) { return allowed(r, nodes[b]) ? fits(r, nodes[b]) : 0; },
      [&](uint32_t b, const counts &c) {
        const auto [it, fresh] = packed.try_emplace({b, c}, verdict::unknown);
        if (fresh) it->second = pack(state_.at(nodes[b]), wants, c, budget_, nullptr);
        return it->second;
      },
      budget_);
  std::vector<counts> picks;
  const verdict v = split.run(picks);
  if (v != verdict::yes) return v;
  effort again(most_explored);
  trying_.pieces.clear();
  trying_.grants.clear();
  std::vector<uint32_t> rest = t.members;
  for (std::size_t b = 0; b < nodes.size(); ++b) {
    for (std::size_t r = 0; r < roles; ++r) picks[b][r] = std::min(picks[b][r], rest[r]), rest[r] -= picks[b][r];
    std::vector<std::vector<model::grant>> grants;
    if (pack(state_.at(nodes[b]), wants, picks[b], again, &grants) != verdict::yes) return verdict::unknown;
    for (std::size_t r = 0; r < roles; ++r)
      for (uint32_t i = 0; i < picks[b][r]; ++i) {
        const auto first = static_cast<uint32_t>(trying_.grants.size());
        const auto from = grants[r].begin() + static_cast<std::ptrdiff_t>(i * wants[r].devices);
        trying_.grants.insert(trying_.grants.end(), from, from + wants[r].devices);
        trying_.pieces.push_back({static_cast<uint32_t>(r), nodes[b], first, wants[r].devices});
      }
  }
  found_ = trying_;
  return verdict::yes;
}

search::target search::minima() const {
  target t{cluster_level, std::vector<int>(what_.roles.size(), cluster_level), {}};
  for (const wanted_role &r : what_.roles) t.members.push_back(r.least);
  return t;
}

verdict search::minima_fit(bool gang_topology, bool role_topology) {
  target t = minima();
  if (gang_topology) t.level = what_.widest;
  for (std::size_t r = 0; role_topology && r < t.levels.size(); ++r) t.levels[r] = what_.roles[r].widest;
  return feasible(t);
}

verdict search::minima_fit_with(std::size_t role) {
  target t = minima();
  t.levels[role] = what_.roles[role].widest;
  return feasible(t);
}

// What one domain takes, role by role; a role alone is counted, since nothing comes after it.
search::partial search::partial_in(int level, uint32_t domain) {
  const std::size_t mark = state_.mark();
  trying_.pieces.clear();
  trying_.grants.clear();
  partial here{0, domain, what_.roles.size()};
  for (std::size_t r = 0; r < what_.roles.size(); ++r) {
    const int own = std::max(level, what_.roles[r].widest);
    candidate most{0, 0};
    for (const candidate &c : candidates(r, own, level, domain, 0))
      if (c.room > most.room) most = c;
    const uint32_t least = what_.roles[r].least;
    const auto take = static_cast<uint32_t>(std::min<uint64_t>(most.room, least));
    if (take > 0 && r + 1 < what_.roles.size()) fill(r, own, most.domain, take);
    here.members += take;
    if (take < least) here.short_of = std::min(here.short_of, r);
  }
  state_.rollback(mark);
  return here;
}

search::partial search::best_partial(int level) {
  // What each domain takes if no role takes anything from another. Only those are tried that may be the best.
  std::vector<candidate> bounds(state_.topology().count(level));
  for (uint32_t d = 0; d < bounds.size(); ++d) bounds[d].domain = d;
  for (std::size_t r = 0; r < what_.roles.size(); ++r) {
    const int own = std::max(level, what_.roles[r].widest);
    std::vector<uint64_t> most(bounds.size(), 0);
    for (const candidate &c : candidates(r, own, cluster_level, 0, 0)) {
      uint64_t &here = most[state_.topology().domain(level, state_.topology().members(own, c.domain).front())];
      here = std::max(here, c.room);
    }
    for (uint32_t d = 0; d < bounds.size(); ++d) bounds[d].room += std::min<uint64_t>(most[d], what_.roles[r].least);
  }
  const auto wider = [](const candidate &a, const candidate &b) {
    return std::pair{b.room, a.domain} < std::pair{a.room, b.domain};
  };
  // Of one role the bound is what it takes, and the first in order the best.
  if (alone() && !bounds.empty()) std::swap(bounds.front(), *std::min_element(bounds.begin(), bounds.end(), wider));
  else std::sort(bounds.begin(), bounds.end(), wider);
  partial best{0, 0, 0};
  bool first = true;
  for (const candidate &c : bounds) {
    if (!first && (alone() || c.room < best.members)) break;
    const partial here = partial_in(level, c.domain);
    if (first || here.members > best.members || (here.members == best.members && here.domain < best.domain))
      best = here;
    first = false;
  }
  if (best.short_of == what_.roles.size()) best.short_of = 0;
  return best;
}

search::partial search::best_partial_of(std::size_t role, int level) {
  const candidate best = widest(role, level);
  return {static_cast<uint32_t>(std::min<uint64_t>(best.room, ~0u)), best.domain, role};
}

}  // namespace thole::gang
