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
  return {};
}

uint32_t fits(const machine &m, const member_want &w) noexcept {
  if (!m.open()) return 0;
  int64_t n = THOLE_MAX_MEMBERS;
  if (w.cpu_milli > 0) n = std::min(n, std::max<int64_t>(0, m.cpu_milli - m.used_cpu) / w.cpu_milli);
  if (w.memory_mib > 0) n = std::min(n, std::max<int64_t>(0, m.memory_mib - m.used_memory) / w.memory_mib);
  if (n == 0 || w.devices == 0) return static_cast<uint32_t>(n);
  int64_t sum = 0;
  for (const gpu &g : m.gpus) sum += slots(g, w.device);
  return static_cast<uint32_t>(std::min<int64_t>(n, sum / w.devices));
}

uint32_t capacity(const machine &m, const member_want &w) noexcept {
  int64_t n = THOLE_MAX_MEMBERS;
  if (w.cpu_milli > 0) n = std::min(n, m.cpu_milli / w.cpu_milli);
  if (w.memory_mib > 0) n = std::min(n, m.memory_mib / w.memory_mib);
  if (w.devices == 0) return static_cast<uint32_t>(n);
  int64_t sum = 0;
  for (const gpu &g : m.gpus) sum += capacity(g, w.device);
  return static_cast<uint32_t>(std::min<int64_t>(n, sum / w.devices));
}

namespace {

// Smaller is a tighter fit.
int64_t room_of(const gpu &g, device_kind kind) noexcept {
  if (kind == device_kind::mig) return 64 - __builtin_popcountll(g.slices());
  return g.memory_mib - g.used_mib;
}

}  // namespace

void place(machine &m, const member_want &w, std::vector<grant> &out) {
  m.used_cpu += w.cpu_milli;
  m.used_memory += w.memory_mib;
  for (uint32_t i = 0; i < w.devices; ++i) {
    gpu *best = nullptr;
    for (gpu &g : m.gpus)
      if (slots(g, w.device) > 0 && (best == nullptr || room_of(g, w.device.kind) < room_of(*best, w.device.kind)))
        best = &g;
    if (best == nullptr) return;  // fits() has said that this does not happen
    grant what = *choose(*best, w.device);
    what.device = static_cast<uint32_t>(best - m.gpus.data());
    hold(*best, what);
    out.push_back(what);
  }
}

}  // namespace thole::model
