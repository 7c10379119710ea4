#include "model/node.h"

#include <algorithm>

namespace thole::model {

result<> check(const node &n, std::size_t levels) {
  if (n.name.empty()) return fail(reason::NodeBad, "a node has no name");
  if (n.domains.size() != levels)
    return fail(reason::NodeBad, "node {} names {} domains; the topology has {} levels", n.name, n.domains.size(),
                levels);
  for (const std::string &d : n.domains)
    if (d.empty()) return fail(reason::NodeBad, "a domain of node {} has no name", n.name);
  if (n.cpu_milli > most_cpu_milli || n.memory_mib > most_mib)
    return fail(reason::OverBound, "node {}: cpu above {} or memory above {} MiB", n.name, most_cpu_milli, most_mib);
  if ((n.flags & ~THOLE_NODE_CORDONED) != 0)
    return fail(reason::NodeBad, "node {}: unknown flags {:#x}", n.name, n.flags);
  if (n.devices.size() > THOLE_MAX_GPUS)
    return fail(reason::OverBound, "node {} has {} devices; {} are the most", n.name, n.devices.size(), THOLE_MAX_GPUS);
  for (const device &d : n.devices) THOLE_TRY(check(d));
  if (n.labels.size() > THOLE_MAX_LABELS)
    return fail(reason::OverBound, "node {} has {} labels; {} are the most", n.name, n.labels.size(), THOLE_MAX_LABELS);
  for (const std::string &l : n.labels)
    if (l.empty()) return fail(reason::NodeBad, "a label of node {} is empty", n.name);
  return {};
}

bool machine::has(uint32_t label) const noexcept {
  return label == 0 || std::binary_search(labels.begin(), labels.end(), label);
}

void machine::empty() noexcept {
  used_cpu = used_memory = 0;
  for (gpu &g : gpus) {
    g.wholes = g.vgpus = 0;
    g.used_mib = g.used_share = 0;
    g.instances.clear();
  }
}

namespace {

// How many members, each of `w.devices` devices, at most `n` of them, where GPU i takes room(i) devices.
template <class Room>
uint32_t members_on(const machine &m, const member_want &w, int64_t n, Room room) {
  // Devices that are of use to n members; of vGPUs, a GPU serves each member once at most.
  const auto of_use = [&](int64_t members) {
    int64_t sum = 0;
    for (const gpu &g : m.gpus) sum += apart(w) ? std::min<int64_t>(room(g), members) : room(g);
    return sum;
  };
  // n members find their GPUs exactly if of_use(n) >= n * devices, and fewer have no more of use than n.
  for (;;) {
    const int64_t next = std::min(n, of_use(n) / w.devices);
    if (next == n || next == 0) return static_cast<uint32_t>(next);
    n = next;
  }
}

}  // namespace

uint32_t fits(const machine &m, const member_want &w) noexcept {
  if (!m.open() || !m.has(w.label)) return 0;
  int64_t n = THOLE_MAX_MEMBERS;
  if (w.cpu_milli > 0) n = std::min(n, std::max<int64_t>(0, m.cpu_milli - m.used_cpu) / w.cpu_milli);
  if (w.memory_mib > 0) n = std::min(n, std::max<int64_t>(0, m.memory_mib - m.used_memory) / w.memory_mib);
  if (n == 0 || w.devices == 0) return static_cast<uint32_t>(n);
  return members_on(m, w, n, [&](const gpu &g) { return slots(g, w.device); });
}

uint32_t capacity(const machine &m, const member_want &w) noexcept {
  if (!m.has(w.label)) return 0;
  int64_t n = THOLE_MAX_MEMBERS;
  if (w.cpu_milli > 0) n = std::min(n, m.cpu_milli / w.cpu_milli);
  if (w.memory_mib > 0) n = std::min(n, m.memory_mib / w.memory_mib);
  if (w.devices == 0) return static_cast<uint32_t>(n);
  return members_on(m, w, n, [&](const gpu &g) { return capacity(g, w.device); });
}

namespace {

// Smaller is a tighter fit.
int64_t room_of(const gpu &g, device_kind kind) noexcept {
  if (kind == device_kind::mig) return 64 - __builtin_popcountll(g.slices());
  return g.memory_mib - g.used_mib;
}

void take(machine &m, std::size_t device, const member_want &w, std::vector<grant> &out) {
  grant what = *choose(m.gpus[device], w.device);
  what.device = static_cast<uint32_t>(device);
  hold(m.gpus[device], what);
  out.push_back(what);
}

// One vGPU on each of `w.devices` GPUs. With n members possible before, n - 1 must stay possible, so of the GPUs that
// every one of the n could need (room for n or more), all but what is to spare are taken; the rest is best fit.
void place_apart(machine &m, const member_want &w, int64_t n, std::vector<grant> &out) {
  struct choice {
    bool needed;
    int64_t room;
    std::size_t device;
  };
  std::vector<choice> free;
  int64_t spare = -n * w.devices, needed = 0;
  for (std::size_t i = 0; i < m.gpus.size(); ++i)
    if (const int64_t here = slots(m.gpus[i], w.device); here > 0) {
      spare += std::min(here, n);
      needed += here >= n ? 1 : 0;
      free.push_back({here >= n, room_of(m.gpus[i], w.device.kind), i});
    }
  std::stable_sort(free.begin(), free.end(), [](const choice &a, const choice &b) { return a.room < b.room; });
  int64_t must = needed - spare;
  std::vector<std::size_t> chosen;
  for (const choice &c : free)
    if (c.needed && must > 0) --must, chosen.push_back(c.device);
  for (const choice &c : free)
    if (chosen.size() < w.devices && std::find(chosen.begin(), chosen.end(), c.device) == chosen.end())
      chosen.push_back(c.device);
  std::sort(chosen.begin(), chosen.end());
  for (std::size_t device : chosen) take(m, device, w, out);
}

}  // namespace

void place(machine &m, const member_want &w, std::vector<grant> &out) {
  if (out.capacity() - out.size() < w.devices)
    out.reserve(std::max(2 * out.capacity(), out.size() + w.devices));  // take() must not fail between its two lines
  if (apart(w)) {
    place_apart(m, w, fits(m, w), out);
  } else {
    for (uint32_t i = 0; i < w.devices; ++i) {
      std::size_t best = m.gpus.size();
      for (std::size_t g = 0; g < m.gpus.size(); ++g)
        if (slots(m.gpus[g], w.device) > 0 &&
            (best == m.gpus.size() || room_of(m.gpus[g], w.device.kind) < room_of(m.gpus[best], w.device.kind)))
          best = g;
      if (best == m.gpus.size()) break;  // fits() has said that this does not happen
      take(m, best, w, out);
    }
  }
  m.used_cpu += w.cpu_milli;
  m.used_memory += w.memory_mib;
}

}  // namespace thole::model
