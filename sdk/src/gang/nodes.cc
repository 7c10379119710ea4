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
  for (const std::string &l : known.spec.labels) m.labels.push_back(names_.intern(l));
  std::sort(m.labels.begin(), m.labels.end());
  return m;
}

void ledger::index_devices(uint32_t node) noexcept {
  for (uint32_t id : known_[node].uuids) home_[id] = node + 1;
}

// With `before`, what is held there is fitted to the devices as they are described now.
ledger::fitted_node ledger::fit(known_node known, const known_node *before) {
  fitted_node out{std::move(known), {}, {}};
  out.machine = compile(out.known);
  out.known.uuids.clear();
  for (const auto *list : {&out.known.spec.devices, &out.known.kept})
    for (const device &d : *list) out.known.uuids.push_back(names_.intern(d.uuid));
  if (before == nullptr) return out;
  for (const auto &[id, member] : before->here) {
    const holding &gang = gangs_.at(id);
    const held_member &h = gang.members[member];
    out.machine.used_cpu += h.cpu_milli;
    out.machine.used_memory += h.memory_mib;
    for (model::grant g : gang.of(h)) {
      const auto at = std::find(out.known.uuids.begin(), out.known.uuids.end(), before->uuids[g.device]);
      g.device = static_cast<uint32_t>(at - out.known.uuids.begin());
      model::charge(g, out.machine.gpus[g.device]);
      model::hold(out.machine.gpus[g.device], g);
      out.grants.push_back(g);
    }
  }
  return out;
}

void ledger::replace_node(uint32_t node, fitted_node &with) noexcept {
  known_node &k = known_[node];
  with.known.here = std::move(k.here);
  k = std::move(with.known);
  machines_[node] = std::move(with.machine);
  index_devices(node);
  touch_shape(node);
  auto next = with.grants.begin();
  for (const auto &[id, member] : k.here) {
    holding &gang = gangs_.find(id)->second;
    const held_member &h = gang.members[member];
    std::copy_n(next, h.grants, gang.grants.begin() + h.first_grant);
    next += h.grants;
  }
}

// Names have been given out for all of them.
void ledger::make_room_for(std::size_t more_nodes) {
  make_room(known_, more_nodes);
  make_room(machines_, more_nodes);
  make_room(stamps_, more_nodes);
  make_room(shapes_, more_nodes);
  if (home_.size() < names_.size()) home_.resize(names_.size() + names_.size() / 2, 0);
  if (node_of_.size() < names_.size()) node_of_.resize(names_.size() + names_.size() / 2, 0);
}

void ledger::append_node(fitted_node &what) noexcept {
  const uint32_t node = nodes();
  known_.push_back(std::move(what.known));
  machines_.push_back(std::move(what.machine));
  stamps_.push_back(0);
  shapes_.push_back(0);
  touch_shape(node);
  index_devices(node);
  node_of_[machines_[node].name] = node + 1;
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
static std::vector<T> room_for(const std::vector<T> &, std::span<const uint32_t> order) {
  std::vector<T> out;
  out.reserve(order.size());
  return out;
}

template <class T>
static void rearrange(std::vector<T> &what, std::span<const uint32_t> order, std::vector<T> &into) noexcept {
  for (uint32_t n : order) into.push_back(std::move(what[n]));
  what.swap(into);
}

void ledger::settle() {
  tidy();
  if (order_is_old_) {
    const std::vector<uint32_t> order = order_by_name();
    std::vector<uint32_t> now(known_.size(), no_node);
    for (uint32_t n = 0; n < order.size(); ++n) now[order[n]] = n;
    auto machines = room_for(machines_, order);
    auto known = room_for(known_, order);
    auto stamps = room_for(stamps_, order);
    auto shapes = room_for(shapes_, order);
    rearrange(machines_, order, machines);
    rearrange(known_, order, known);
    rearrange(stamps_, order, stamps);
    rearrange(shapes_, order, shapes);
    for (uint32_t n = 0; n < nodes(); ++n) {
      if (order[n] == n) continue;
      node_of_[machines_[n].name] = n + 1;
      index_devices(n);
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
  for (known_node &k : nodes) {
    fitted_node fresh = fit(std::move(k), nullptr);
    make_room_for(1);
    append_node(fresh);
  }
  settle();
}

void ledger::apply_nodes(const std::vector<model::node> &nodes) {
  std::vector<std::pair<uint32_t, fitted_node>> changed;
  std::vector<fitted_node> fresh;
  for (const model::node &n : nodes) {
    known_node now;
    now.spec = n;
    const uint32_t at = find_node(n.name);
    if (at == no_node) {
      fresh.push_back(fit(std::move(now), nullptr));
      continue;
    }
    const known_node &k = known_[at];
    // What is held and no longer listed stays, unhealthy, until it is released.
    for (std::size_t i = 0; i < k.uuids.size(); ++i) {
      const device &old = i < k.spec.devices.size() ? k.spec.devices[i] : k.kept[i - k.spec.devices.size()];
      const bool listed =
          std::any_of(n.devices.begin(), n.devices.end(), [&](const device &d) { return d.uuid == old.uuid; });
      if (!listed && machines_[at].gpus[i].holders() > 0) now.kept.push_back(old);
    }
    std::sort(now.kept.begin(), now.kept.end(), [](const device &a, const device &b) { return a.uuid < b.uuid; });
    changed.emplace_back(at, fit(std::move(now), &k));
  }
  make_room_for(fresh.size());
  // From here on nothing fails. A device may move from one node of the call to another: all leave before any arrives.
  for (const auto &[at, with] : changed)
    for (uint32_t id : known_[at].uuids) home_[id] = 0;
  for (auto &[at, with] : changed) {
    topology_is_old_ = topology_is_old_ || known_[at].spec.domains != with.known.spec.domains;
    replace_node(at, with);
  }
  for (fitted_node &f : fresh) append_node(f);
}

void ledger::apply_remove(uint32_t node) {
  if (known_[node].here.empty()) return forget_node(node);
  known_[node].leaving = true;
  machines_[node].flags |= THOLE_NODE_CORDONED;
  touch_shape(node);
}

// Nothing is held there. Its place is taken away by settle().
void ledger::forget_node(uint32_t node) noexcept {
  for (uint32_t id : known_[node].uuids) home_[id] = 0;
  node_of_[machines_[node].name] = 0;
  known_[node] = {};
  known_[node].gone = true;
  machines_[node] = {};
  ++gone_;
  order_is_old_ = topology_is_old_ = true;
}

void ledger::tidy() {
  if (!untidy_) return;
  for (uint32_t node = 0; node < nodes(); ++node) {
    const known_node &k = known_[node];
    if (!k.untidy) continue;
    if (k.leaving && k.here.empty()) {
      forget_node(node);
      continue;
    }
    known_node now;
    now.spec = k.spec;
    now.leaving = k.leaving;
    const std::size_t listed = k.spec.devices.size();
    for (std::size_t i = 0; i < k.kept.size(); ++i)
      if (machines_[node].gpus[listed + i].holders() > 0) now.kept.push_back(k.kept[i]);
    if (now.kept.size() == k.kept.size()) {
      known_[node].untidy = false;
      continue;
    }
    fitted_node with = fit(std::move(now), &k);
    for (uint32_t id : k.uuids) home_[id] = 0;
    replace_node(node, with);
  }
  untidy_ = false;
}

void ledger::rebuild_topology() {
  std::vector<const std::vector<std::string> *> domains;
  domains.reserve(known_.size());
  for (const known_node &k : known_) domains.push_back(&k.spec.domains);
  topology_ = model::topology(levels_, domains);
  start_touched();
  topology_is_old_ = false;
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
