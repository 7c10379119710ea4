#include "gang/ledger.h"

#include <algorithm>

namespace thole::gang {

using model::machine;

void ledger::reset() {
  levels_.clear();
  levels_set_ = false;
  topology_ = {};
  machines_.clear();
  known_.clear();
  stamps_.clear();
  shapes_.clear();
  in_order_ = gone_ = 0;
  untidy_ = order_is_old_ = topology_is_old_ = false;
  node_of_.clear();
  home_.clear();
  gangs_.clear();
  expiring_.clear();
  undo_.clear();
  revision_ = 0;
  start_touched();
}

namespace {
uint32_t look_up(const std::vector<uint32_t> &table, uint32_t id) {
  return id == names::no_name || id >= table.size() ? ledger::no_node : table[id] - 1;  // 0 - 1 is no_node
}
}  // namespace

uint32_t ledger::find_node(std::string_view name) const {
  return look_up(node_of_, names_.find(name));
}

uint32_t ledger::home_of(std::string_view uuid) const {
  return look_up(home_, names_.find(uuid));
}

uint32_t ledger::find_device(uint32_t node, std::string_view uuid) const {
  // A handful of texts that lie side by side: sooner compared than looked up among all names.
  const auto &uuids = known_[node].uuids;
  const auto it = std::find_if(uuids.begin(), uuids.end(), [&](uint32_t id) { return names_.text(id) == uuid; });
  return it == uuids.end() ? no_node : static_cast<uint32_t>(it - uuids.begin());
}

// --- tentative changes

void ledger::rollback(std::size_t mark) {
  while (undo_.size() > mark) {
    const change &c = undo_.back();
    machine &m = machines_[c.node];
    const int64_t sign = c.taken ? -1 : 1;
    m.used_cpu += sign * c.cpu_milli;
    m.used_memory += sign * c.memory_mib;
    if (c.device && c.taken) model::give_back(m.gpus[c.grant.device], c.grant);
    if (c.device && !c.taken) model::hold(m.gpus[c.grant.device], c.grant);
    touch(c.node);
    undo_.pop_back();
  }
}

void ledger::place(uint32_t node, const model::member_want &want, std::vector<model::grant> &out) {
  machine &m = machines_[node];
  const std::size_t first = out.size();
  make_room(undo_, std::size_t{1} + want.devices);
  try {
    model::place(m, want, out);
  } catch (...) {
    for (std::size_t i = first; i < out.size(); ++i) model::give_back(m.gpus[out[i].device], out[i]);
    out.resize(first);
    throw;
  }
  undo_.push_back({node, true, false, want.cpu_milli, want.memory_mib, {}});
  for (std::size_t i = first; i < out.size(); ++i) undo_.push_back({node, true, true, 0, 0, out[i]});
  touch(node);
}

// If it throws in the middle, rollback takes back what was done.
void ledger::hold(uint32_t node, int64_t cpu_milli, int64_t memory_mib, std::span<const model::grant> grants) {
  make_room(undo_, 1 + grants.size());
  machine &m = machines_[node];
  m.used_cpu += cpu_milli;
  m.used_memory += memory_mib;
  undo_.push_back({node, true, false, cpu_milli, memory_mib, {}});
  touch(node);
  for (const model::grant &g : grants) {
    model::hold(m.gpus[g.device], g);
    undo_.push_back({node, true, true, 0, 0, g});
  }
}

void ledger::give_back(const holding &what) {
  make_room(undo_, what.members.size() + what.grants.size());
  for (const held_member &h : what.members) {
    machine &m = machines_[h.node];
    m.used_cpu -= h.cpu_milli;
    m.used_memory -= h.memory_mib;
    undo_.push_back({h.node, false, false, h.cpu_milli, h.memory_mib, {}});
    for (const model::grant &g : what.of(h)) {
      model::give_back(m.gpus[g.device], g);
      undo_.push_back({h.node, false, true, 0, 0, g});
    }
    touch(h.node);
  }
}

// --- lasting changes

void ledger::apply_levels(std::vector<std::string> levels) {
  levels_ = std::move(levels);
  levels_set_ = true;
  topology_is_old_ = true;
}

// Takes a gang's entry away. What nobody holds any more is left to tidy().
void ledger::erase(id128 gang) noexcept {
  const auto it = gangs_.find(gang);
  if (it == gangs_.end()) return;
  const holding &h = it->second;
  for (const held_member &member : h.members) {
    machine &m = machines_[member.node];
    known_node &k = known_[member.node];
    m.used_cpu -= member.cpu_milli;
    m.used_memory -= member.memory_mib;
    for (const model::grant &g : h.of(member)) model::give_back(m.gpus[g.device], g);
    std::erase_if(k.here, [&](const auto &entry) { return entry.first == gang; });
    if (k.leaving || !k.kept.empty()) untidy_ = k.untidy = true;
    touch(member.node);
  }
  expiring_.erase({h.expires_ns, gang});
  gangs_.erase(it);
}

void ledger::apply_reserve(id128 gang, holding what, std::span<const id128> dropped) {
  std::map<id128, holding> entry;
  const holding &h = entry.emplace(gang, std::move(what)).first->second;
  std::set<std::pair<int64_t, id128>> expiry;
  if (h.expires_ns != 0 && h.state == model::gang_state::reserved) expiry.emplace(h.expires_ns, gang);
  uint32_t here = 0;
  try {
    for (; here < h.members.size(); ++here) {
      const held_member &m = h.members[here];
      make_room(known_[m.node].here, 1);
      hold(m.node, m.cpu_milli, m.memory_mib, h.of(m));
      known_[m.node].here.emplace_back(gang, here);
    }
  } catch (...) {
    while (here-- > 0) known_[h.members[here].node].here.pop_back();
    rollback(0);
    throw;
  }
  // From here on nothing fails: there is room. One of those dropped may be the gang itself, so its places come last.
  undo_.clear();
  while (here-- > 0) known_[h.members[here].node].here.pop_back();
  for (id128 id : dropped) erase(id);
  erase(gang);
  for (here = 0; here < h.members.size(); ++here) known_[h.members[here].node].here.emplace_back(gang, here);
  expiring_.merge(expiry);
  gangs_.merge(entry);
}

void ledger::apply_confirm(id128 gang) {
  holding &h = gangs_.at(gang);
  expiring_.erase({h.expires_ns, gang});
  h.state = model::gang_state::confirmed;
  h.expires_ns = 0;
}

void ledger::apply_expiry(id128 gang, int64_t expires_ns) {
  holding &h = gangs_.at(gang);
  if (h.expires_ns == expires_ns) return;
  if (expires_ns != 0) expiring_.emplace(expires_ns, gang);
  expiring_.erase({h.expires_ns, gang});
  h.expires_ns = expires_ns;
}

void ledger::apply_drop(id128 gang) {
  erase(gang);
}

}  // namespace thole::gang
