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
  order_is_old_ = topology_is_old_ = false;
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
  const std::size_t first = out.size();
  model::place(machines_[node], want, out);
  undo_.push_back({node, true, false, want.cpu_milli, want.memory_mib, {}});
  for (std::size_t i = first; i < out.size(); ++i) undo_.push_back({node, true, true, 0, 0, out[i]});
  touch(node);
}

void ledger::hold(uint32_t node, int64_t cpu_milli, int64_t memory_mib, std::span<const model::grant> grants) {
  machine &m = machines_[node];
  m.used_cpu += cpu_milli;
  m.used_memory += memory_mib;
  undo_.push_back({node, true, false, cpu_milli, memory_mib, {}});
  for (const model::grant &g : grants) {
    model::hold(m.gpus[g.device], g);
    undo_.push_back({node, true, true, 0, 0, g});
  }
  touch(node);
}

void ledger::give_back(const holding &what) {
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

// The nodes of a gang, each once, ascending.
static std::vector<uint32_t> nodes_of(const holding &h) {
  std::vector<uint32_t> out;
  out.reserve(h.members.size());
  for (const held_member &m : h.members)
    if (out.empty() || out.back() != m.node) out.push_back(m.node);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// Takes a gang's entry away, and answers the nodes on which it has held something.
std::vector<uint32_t> ledger::erase(id128 gang) {
  const auto it = gangs_.find(gang);
  if (it == gangs_.end()) return {};
  const holding &h = it->second;
  std::vector<uint32_t> at = nodes_of(h);
  for (uint32_t node : at) std::erase_if(known_[node].here, [&](const auto &entry) { return entry.first == gang; });
  expiring_.erase({h.expires_ns, gang});
  give_back(h);
  undo_.clear();
  gangs_.erase(it);
  return at;
}

void ledger::apply_reserve(id128 gang, holding what, std::span<const id128> dropped) {
  std::vector<uint32_t> left;
  for (id128 id : dropped) {
    const auto at = erase(id);
    left.insert(left.end(), at.begin(), at.end());
  }
  for (uint32_t i = 0; i < what.members.size(); ++i) {
    const held_member &m = what.members[i];
    hold(m.node, m.cpu_milli, m.memory_mib, what.of(m));
    known_[m.node].here.emplace_back(gang, i);
  }
  undo_.clear();
  if (what.expires_ns != 0 && what.state == model::gang_state::reserved) expiring_.emplace(what.expires_ns, gang);
  gangs_.insert_or_assign(gang, std::move(what));
  // Last, since it moves the places of nodes and devices that `what` is written in.
  std::sort(left.begin(), left.end());
  left.erase(std::unique(left.begin(), left.end()), left.end());
  forget_unheld(left);
}

void ledger::apply_confirm(id128 gang) {
  holding &h = gangs_.at(gang);
  expiring_.erase({h.expires_ns, gang});
  h.state = model::gang_state::confirmed;
  h.expires_ns = 0;
}

void ledger::apply_expiry(id128 gang, int64_t expires_ns) {
  holding &h = gangs_.at(gang);
  expiring_.erase({h.expires_ns, gang});
  h.expires_ns = expires_ns;
  if (expires_ns != 0) expiring_.emplace(expires_ns, gang);
}

void ledger::apply_drop(id128 gang) {
  forget_unheld(erase(gang));
}

}  // namespace thole::gang
