#include "gang/ledger.h"

#include <algorithm>

namespace thole::gang {

using model::device;
using model::gpu;
using model::machine;

void ledger::reset() {
  levels_.clear();
  levels_set_ = false;
  topology_ = {};
  machines_.clear();
  known_.clear();
  stamps_.clear();
  node_of_.clear();
  home_.clear();
  gangs_.clear();
  expiring_.clear();
  undo_.clear();
  revision_ = 0;
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
  const uint32_t id = names_.find(uuid);
  const auto &uuids = known_[node].uuids;
  const auto it = std::find(uuids.begin(), uuids.end(), id);
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
  rebuild_topology();
}

gpu ledger::compile(const device &d, uint32_t more_flags) {
  gpu g;
  g.model = names_.intern(d.model);
  g.flags = d.flags | more_flags;
  g.max_vgpus = d.max_vgpus == 0 ? model::default_max_vgpus : d.max_vgpus;
  g.memory_mib = static_cast<int64_t>(d.memory_mib);
  g.context_mib = static_cast<int64_t>(d.context_mib);
  for (const model::mig_profile &p : d.mig) {
    model::profile_shape shape{names_.intern(p.name), p.count, p.share_milli, static_cast<int64_t>(p.memory_mib),
                               p.placements,          {}};
    for (uint32_t i = 0; i < p.placements.size(); ++i) shape.by_end.push_back(i);
    std::stable_sort(shape.by_end.begin(), shape.by_end.end(), [&](uint32_t a, uint32_t b) {
      const auto &x = p.placements[a], &y = p.placements[b];
      return std::pair{x.start + x.size, x.start} < std::pair{y.start + y.size, y.start};
    });
    g.profiles.push_back(std::move(shape));
  }
  return g;
}

machine ledger::compile(const known_node &known) {
  machine m;
  m.name = names_.intern(known.spec.name);
  m.flags = known.spec.flags | (known.leaving ? THOLE_NODE_CORDONED : 0);
  m.cpu_milli = static_cast<int64_t>(known.spec.cpu_milli);
  m.memory_mib = static_cast<int64_t>(known.spec.memory_mib);
  m.gpus.reserve(known.spec.devices.size() + known.kept.size());
  for (const device &d : known.spec.devices) m.gpus.push_back(compile(d, 0));
  for (const device &d : known.kept) m.gpus.push_back(compile(d, THOLE_GPU_UNHEALTHY));
  return m;
}

void ledger::index_devices(uint32_t node) {
  known_node &k = known_[node];
  k.uuids.clear();
  for (const auto *list : {&k.spec.devices, &k.kept})
    for (const device &d : *list) k.uuids.push_back(names_.intern(d.uuid));
  if (home_.size() < names_.size()) home_.resize(names_.size() + names_.size() / 2, 0);
  for (uint32_t id : k.uuids) home_[id] = node + 1;
}

void ledger::append_node(known_node known) {
  const uint32_t node = nodes();
  known_.push_back(std::move(known));
  machines_.push_back(compile(known_.back()));
  stamps_.push_back(0);
  touch(node);
  index_devices(node);
  const uint32_t name = machines_[node].name;
  if (node_of_.size() <= name) node_of_.resize(names_.size() + names_.size() / 2, 0);
  node_of_[name] = node + 1;
}

// Brings the nodes into the byte order of their names, whatever order they came in.
void ledger::sort_nodes() {
  std::vector<uint32_t> order(machines_.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return known_[a].spec.name < known_[b].spec.name; });
  std::vector<uint32_t> now(order.size());
  std::vector<machine> machines(order.size());
  std::vector<known_node> known(order.size());
  for (uint32_t i = 0; i < order.size(); ++i) {
    now[order[i]] = i;
    machines[i] = std::move(machines_[order[i]]);
    known[i] = std::move(known_[order[i]]);
  }
  machines_ = std::move(machines);
  known_ = std::move(known);
  for (uint32_t n = 0; n < nodes(); ++n) {
    node_of_[machines_[n].name] = n + 1;
    for (uint32_t id : known_[n].uuids) home_[id] = n + 1;
    touch(n);
  }
  for (auto &[id, gang] : gangs_)
    for (held_member &h : gang.members) h.node = now[h.node];
}

void ledger::restore_nodes(std::vector<known_node> nodes) {
  for (known_node &k : nodes) append_node(std::move(k));
  sort_nodes();
  rebuild_topology();
}

void ledger::apply_nodes(const std::vector<model::node> &nodes) {
  std::vector<uint32_t> changed;
  bool moved = false, more = false;
  // A device may move from one node of the call to another: all leave before any arrives.
  for (const model::node &n : nodes)
    if (const uint32_t at = find_node(n.name); at != no_node)
      for (uint32_t id : known_[at].uuids) home_[id] = 0;
  for (const model::node &n : nodes) {
    const uint32_t at = find_node(n.name);
    if (at == no_node) {
      append_node({n, {}, {}, false, 0});
      moved = more = true;
      continue;
    }
    known_node &k = known_[at];
    moved = moved || k.spec.domains != n.domains;
    // What is held and no longer listed stays, unhealthy, until it is released.
    std::vector<device> kept;
    for (std::size_t i = 0; i < k.uuids.size(); ++i) {
      const device &old = i < k.spec.devices.size() ? k.spec.devices[i] : k.kept[i - k.spec.devices.size()];
      const bool listed =
          std::any_of(n.devices.begin(), n.devices.end(), [&](const device &d) { return d.uuid == old.uuid; });
      if (!listed && machines_[at].gpus[i].holders() > 0) kept.push_back(old);
    }
    std::sort(kept.begin(), kept.end(), [](const device &a, const device &b) { return a.uuid < b.uuid; });
    k.spec = n;
    k.kept = std::move(kept);
    k.leaving = false;
    changed.push_back(at);
  }
  refit(changed);
  if (more) sort_nodes();
  if (moved) rebuild_topology();
}

// Makes the machines of `changed` new from what is known, and gives the gangs back what they hold there.
void ledger::refit(std::span<const uint32_t> changed) {
  constexpr uint32_t same = ~uint32_t{0};
  std::vector<uint32_t> slot(machines_.size(), same);
  std::vector<std::vector<uint32_t>> before(changed.size());
  bool held = false;
  for (std::size_t i = 0; i < changed.size(); ++i) {
    const uint32_t node = changed[i];
    slot[node] = static_cast<uint32_t>(i);
    const machine &m = machines_[node];
    held = held || m.used_cpu != 0 || m.used_memory != 0 ||
           std::any_of(m.gpus.begin(), m.gpus.end(), [](const gpu &g) { return g.holders() > 0; });
    before[i] = known_[node].uuids;
  }
  for (uint32_t node : changed) {
    machines_[node] = compile(known_[node]);
    touch(node);
    index_devices(node);
  }
  if (!held) return;
  for (auto &[id, gang] : gangs_)
    for (const held_member &h : gang.members) {
      if (slot[h.node] == same) continue;
      machine &m = machines_[h.node];
      const auto &uuids = known_[h.node].uuids;
      m.used_cpu += h.cpu_milli;
      m.used_memory += h.memory_mib;
      for (uint32_t i = h.first_grant; i < h.first_grant + h.grants; ++i) {
        model::grant &g = gang.grants[i];
        const uint32_t uuid = before[slot[h.node]][g.device];
        g.device = static_cast<uint32_t>(std::find(uuids.begin(), uuids.end(), uuid) - uuids.begin());
        model::charge(g, m.gpus[g.device]);
        model::hold(m.gpus[g.device], g);
      }
    }
}

void ledger::apply_remove(uint32_t node) {
  if (known_[node].members == 0) {
    forget_node(node);
    rebuild_topology();
    return;
  }
  known_[node].leaving = true;
  machines_[node].flags |= THOLE_NODE_CORDONED;
  touch(node);
}

void ledger::forget_node(uint32_t node) {
  for (uint32_t id : known_[node].uuids) home_[id] = 0;
  node_of_[machines_[node].name] = 0;
  const auto at = static_cast<std::ptrdiff_t>(node);
  machines_.erase(machines_.begin() + at);
  known_.erase(known_.begin() + at);
  stamps_.erase(stamps_.begin() + at);
  for (uint32_t n = node; n < nodes(); ++n) {
    node_of_[machines_[n].name] = n + 1;
    for (uint32_t id : known_[n].uuids) home_[id] = n + 1;
    touch(n);
  }
  for (auto &[id, gang] : gangs_)
    for (held_member &h : gang.members)
      if (h.node > node) --h.node;
}

void ledger::put(const holding &what, bool take) {
  if (!take) {
    give_back(what);
  } else {
    for (const held_member &h : what.members) hold(h.node, h.cpu_milli, h.memory_mib, what.of(h));
  }
  for (const held_member &h : what.members) known_[h.node].members += take ? 1u : ~0u;
  undo_.clear();
}

void ledger::apply_reserve(id128 gang, holding what) {
  put(what, true);
  if (what.expires_ns != 0 && what.state == model::gang_state::reserved) expiring_.emplace(what.expires_ns, gang);
  gangs_.insert_or_assign(gang, std::move(what));
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
  const auto it = gangs_.find(gang);
  if (it == gangs_.end()) return;
  const holding last = std::move(it->second);
  gangs_.erase(it);
  expiring_.erase({last.expires_ns, gang});
  put(last, false);
  forget_gone(last);
}

void ledger::forget_gone(const holding &dropped) {
  std::vector<uint32_t> changed;
  for (const held_member &h : dropped.members) {
    if (std::find(changed.begin(), changed.end(), h.node) != changed.end()) continue;
    known_node &k = known_[h.node];
    const std::size_t listed = k.spec.devices.size();
    const std::size_t before = k.kept.size();
    for (std::size_t i = before; i-- > 0;) {
      if (machines_[h.node].gpus[listed + i].holders() > 0) continue;
      home_[k.uuids[listed + i]] = 0;
      k.kept.erase(k.kept.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (k.kept.size() != before) changed.push_back(h.node);
  }
  if (!changed.empty()) refit(changed);
  std::set<uint32_t, std::greater<>> left;  // from the last, so that the indices of the others stay
  for (const held_member &h : dropped.members)
    if (known_[h.node].leaving && known_[h.node].members == 0) left.insert(h.node);
  for (uint32_t node : left) forget_node(node);
  if (!left.empty()) rebuild_topology();
}

void ledger::rebuild_topology() {
  std::vector<const std::vector<std::string> *> domains;
  domains.reserve(known_.size());
  for (const known_node &k : known_) domains.push_back(&k.spec.domains);
  topology_ = model::topology(levels_, domains);
}

// --- digest

namespace {

// Mixes 64-bit words; the order of the words matters, nothing of the machine does.
class mixer {
 public:
  void word(uint64_t v) noexcept {
    state_ = (state_ ^ v) * 0x9E3779B97F4A7C15ull;
    state_ ^= state_ >> 29;
    state_ *= 0xBF58476D1CE4E5B9ull;
    state_ ^= state_ >> 32;
  }
  void number(int64_t v) noexcept { word(static_cast<uint64_t>(v)); }
  void text(std::string_view s) noexcept {
    word(s.size());
    uint64_t packed = 0;
    for (std::size_t i = 0; i < s.size(); ++i) {
      packed = packed << 8 | static_cast<unsigned char>(s[i]);
      if (i % 8 == 7) word(packed), packed = 0;
    }
    if (s.size() % 8 != 0) word(packed);
  }
  uint64_t value() const noexcept { return state_; }

 private:
  uint64_t state_ = 0x74686F6C65ull;
};

void mix(mixer &to, const device &d) {
  to.text(d.uuid);
  to.text(d.model);
  to.word(d.memory_mib);
  to.word(d.context_mib);
  to.word(d.flags);
  to.word(d.max_vgpus);
  to.word(d.mig.size());
  for (const model::mig_profile &p : d.mig) {
    to.text(p.name);
    to.word(p.memory_mib);
    to.word(p.count);
    to.word(p.share_milli);
    to.word(p.placements.size());
    for (const model::mig_placement &at : p.placements) to.word(uint64_t{at.start} << 32 | at.size);
  }
}

void mix(mixer &to, const known_node &k) {
  to.text(k.spec.name);
  for (const std::string &d : k.spec.domains) to.text(d);
  to.word(k.spec.cpu_milli);
  to.word(k.spec.memory_mib);
  to.word(k.spec.flags | (k.leaving ? uint64_t{1} << 32 : 0));
  for (const auto *list : {&k.spec.devices, &k.kept}) {
    to.word(list->size());
    for (const device &d : *list) mix(to, d);
  }
}

void mix(mixer &to, const holding &h, const names &words) {
  to.number(static_cast<int64_t>(h.state));
  to.number(h.expires_ns);
  to.word(h.ranks);
  to.word(h.members.size());
  for (const held_member &m : h.members) {
    to.word(uint64_t{m.role} << 32 | m.member);
    to.word(uint64_t{m.first_rank} << 32 | m.ranks);
    to.word(uint64_t{m.node} << 32 | m.grants);
    to.number(m.cpu_milli);
    to.number(m.memory_mib);
    for (const model::grant &g : h.of(m)) {
      to.word(uint64_t{g.device} << 32 | static_cast<uint32_t>(g.kind));
      to.word(uint64_t{g.mig.start} << 32 | g.mig.size);
      to.word(g.share_milli);
      to.number(g.memory_mib);
      to.number(g.charged_mib);
      to.text(words.text(g.profile));
    }
  }
}

}  // namespace

uint64_t ledger::digest(int64_t now_ns) const {
  mixer to;
  to.word(levels_.size());
  for (const std::string &level : levels_) to.text(level);
  to.word(known_.size());
  for (const known_node &k : known_) mix(to, k);
  for (const auto &[id, h] : gangs_) {
    if (h.expired(now_ns)) continue;
    to.word(id.hi);
    to.word(id.lo);
    mix(to, h, names_);
  }
  return to.value();
}

}  // namespace thole::gang
