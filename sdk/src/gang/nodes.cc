// Nodes that come, change and go. Each costs what it weighs, not what the cluster weighs: the order of the nodes and
// the topology are made new by settle(), once for all changes since the last decision.
#include <algorithm>
#include <bit>

#include "gang/ledger.h"

namespace thole::gang {

using model::device;
using model::gpu;
using model::machine;

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
  shapes_.push_back(0);
  touch_shape(node);
  index_devices(node);
  const uint32_t name = machines_[node].name;
  if (node_of_.size() <= name) node_of_.resize(names_.size() + names_.size() / 2, 0);
  node_of_[name] = node + 1;
  order_is_old_ = topology_is_old_ = true;
}

// Where each node stands when those that are gone are left out and the others stand in the byte order of their names.
std::vector<uint32_t> ledger::order_by_name() const {
  const auto by_name = [&](uint32_t a, uint32_t b) { return known_[a].spec.name < known_[b].spec.name; };
  std::vector<uint32_t> order;
  order.reserve(known_.size());
  for (uint32_t n = 0; n < nodes(); ++n)
    if (!known_[n].gone && n < in_order_) order.push_back(n);
  const auto news = static_cast<std::ptrdiff_t>(order.size());
  for (uint32_t n = in_order_; n < nodes(); ++n)
    if (!known_[n].gone) order.push_back(n);
  std::sort(order.begin() + news, order.end(), by_name);
  std::inplace_merge(order.begin(), order.begin() + news, order.end(), by_name);
  return order;
}

template <class T>
static void rearrange(std::vector<T> &what, std::span<const uint32_t> order) {
  std::vector<T> out;
  out.reserve(order.size());
  for (uint32_t n : order) out.push_back(std::move(what[n]));
  what = std::move(out);
}

void ledger::settle() {
  if (order_is_old_) {
    const std::vector<uint32_t> order = order_by_name();
    std::vector<uint32_t> now(known_.size(), no_node);
    for (uint32_t n = 0; n < order.size(); ++n) now[order[n]] = n;
    rearrange(machines_, order);
    rearrange(known_, order);
    rearrange(stamps_, order);
    rearrange(shapes_, order);
    for (uint32_t n = 0; n < nodes(); ++n) {
      if (order[n] == n) continue;
      node_of_[machines_[n].name] = n + 1;
      for (uint32_t id : known_[n].uuids) home_[id] = n + 1;
    }
    for (auto &[id, gang] : gangs_)
      for (held_member &h : gang.members) h.node = now[h.node];
    in_order_ = nodes();
    gone_ = 0;
    order_is_old_ = false;
  }
  if (topology_is_old_) rebuild_topology();
}

void ledger::restore_nodes(std::vector<known_node> nodes) {
  for (known_node &k : nodes) append_node(std::move(k));
  settle();
}

void ledger::apply_nodes(const std::vector<model::node> &nodes) {
  std::vector<uint32_t> changed;
  // A device may move from one node of the call to another: all leave before any arrives.
  for (const model::node &n : nodes)
    if (const uint32_t at = find_node(n.name); at != no_node)
      for (uint32_t id : known_[at].uuids) home_[id] = 0;
  for (const model::node &n : nodes) {
    const uint32_t at = find_node(n.name);
    if (at == no_node) {
      known_node fresh;
      fresh.spec = n;
      append_node(std::move(fresh));
      continue;
    }
    known_node &k = known_[at];
    topology_is_old_ = topology_is_old_ || k.spec.domains != n.domains;
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
}

// Makes the machines of `changed` new from what is known, and gives the gangs back what they hold there.
void ledger::refit(std::span<const uint32_t> changed) {
  for (uint32_t node : changed) {
    const std::vector<uint32_t> before = std::move(known_[node].uuids);
    machine &m = machines_[node] = compile(known_[node]);
    index_devices(node);
    touch_shape(node);
    const std::vector<uint32_t> &uuids = known_[node].uuids;
    for (const auto &[id, member] : known_[node].here) {
      holding &gang = gangs_.at(id);
      const held_member &h = gang.members[member];
      m.used_cpu += h.cpu_milli;
      m.used_memory += h.memory_mib;
      for (uint32_t i = h.first_grant; i < h.first_grant + h.grants; ++i) {
        model::grant &g = gang.grants[i];
        g.device = static_cast<uint32_t>(std::find(uuids.begin(), uuids.end(), before[g.device]) - uuids.begin());
        model::charge(g, m.gpus[g.device]);
        model::hold(m.gpus[g.device], g);
      }
    }
  }
}

void ledger::apply_remove(uint32_t node) {
  if (known_[node].here.empty()) return forget_node(node);
  known_[node].leaving = true;
  machines_[node].flags |= THOLE_NODE_CORDONED;
  touch_shape(node);
}

// Nothing is held there. Its place is taken away by settle().
void ledger::forget_node(uint32_t node) {
  for (uint32_t id : known_[node].uuids) home_[id] = 0;
  node_of_[machines_[node].name] = 0;
  known_[node] = {};
  known_[node].gone = true;
  machines_[node] = {};
  ++gone_;
  order_is_old_ = topology_is_old_ = true;
}

// What gangs that are gone were the last to hold: devices that are no longer listed, nodes that were removed.
void ledger::forget_unheld(std::span<const uint32_t> at) {
  std::vector<uint32_t> changed;
  for (uint32_t node : at) {
    known_node &k = known_[node];
    if (k.leaving && k.here.empty()) {
      forget_node(node);
      continue;
    }
    const std::size_t listed = k.spec.devices.size();
    const std::size_t before = k.kept.size();
    for (std::size_t i = before; i-- > 0;) {
      if (machines_[node].gpus[listed + i].holders() > 0) continue;
      home_[k.uuids[listed + i]] = 0;
      k.kept.erase(k.kept.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (k.kept.size() != before) changed.push_back(node);
  }
  refit(changed);
}

void ledger::rebuild_topology() {
  std::vector<const std::vector<std::string> *> domains;
  domains.reserve(known_.size());
  for (const known_node &k : known_) domains.push_back(&k.spec.domains);
  topology_ = model::topology(levels_, domains);
  topology_is_old_ = false;
  start_touched();
}

// Indices of nodes mean others now: what was touched before is told by no index.
void ledger::start_touched() {
  touched_.assign(std::bit_ceil(std::max<std::size_t>(nodes(), 1024)), no_node);
  shapes_stamp_ = topology_stamp_ = ++clock_;
}

void ledger::be_empty_twin_of(const ledger &other) {
  if (shapes_stamp_ == other.shapes_stamp_) return;
  machines_.resize(other.nodes());
  stamps_.resize(other.nodes(), 0);
  shapes_.resize(other.nodes(), 0);
  for (uint32_t n = 0; n < nodes(); ++n) {
    if (shapes_[n] == other.shapes_[n]) continue;
    machines_[n] = other.machines_[n];
    machines_[n].empty();
    shapes_[n] = other.shapes_[n];
    touch(n);
  }
  if (topology_stamp_ != other.topology_stamp_) {
    topology_ = other.topology_;
    start_touched();
    topology_stamp_ = other.topology_stamp_;
  }
  shapes_stamp_ = other.shapes_stamp_;
}

}  // namespace thole::gang
