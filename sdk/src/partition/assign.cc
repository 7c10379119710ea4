#include "partition/assign.h"

#include <fmt/format.h>

#include <algorithm>

namespace thole::partition {
namespace {

bool starts_with(std::string_view s, std::string_view prefix) noexcept {
  return s.substr(0, prefix.size()) == prefix;
}

backend holder(const granted &g) noexcept {
  if (g.simulated) return backend::simulated;
  return g.kind == THOLE_KIND_WHOLE ? backend::exclusive : backend::none;
}

// A value of CUDA_VISIBLE_DEVICES that is no UUID would be read as an index, or as a list: it would open a GPU that was
// given to somebody else.
result<> check_real(const granted &g) {
  for (const char c : g.uuid)
    if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '-' && c != '/')
      return fail(reason::PlanBad, "the GPU's uuid \"{}\" has characters that no UUID has", g.uuid);
  if (starts_with(g.uuid, "MIG-") && g.kind == THOLE_KIND_MIG) return {};
  if (!starts_with(g.uuid, "GPU-"))
    return fail(reason::PlanBad, "the GPU's uuid \"{}\" does not begin with GPU-: take it as the driver says it",
                g.uuid);
  if (g.kind == THOLE_KIND_MIG)
    return fail(
        reason::MigInstanceMissing,
        "the MIG instance {} of {} has no UUID of its own (MIG-...): make it, and put its UUID into the placement",
        g.mig_profile, g.uuid);
  return {};
}

// Each real GPU once: CUDA sees none at all behind a UUID that stands twice, which is how two vGPUs of one card would.
std::string visible(const member &m) {
  std::string list;
  std::vector<std::string_view> seen;
  for (const granted &g : m.devices) {
    if (g.simulated || std::find(seen.begin(), seen.end(), g.uuid) != seen.end()) continue;
    seen.push_back(g.uuid);
    if (!list.empty()) list += ',';
    list += g.uuid;
  }
  return list;
}

}  // namespace

result<assignment> assign(const member &m) {
  record r{m.gang, m.attempt, m.generation, m.node, m.role, m.index, {}};
  assignment out;
  // Without a device there is no cap, and so nothing that would hold one.
  out.held_by = m.devices.empty() ? backend::none : backend::exclusive;
  for (const granted &g : m.devices) {
    if (!g.simulated) THOLE_TRY(check_real(g));
    const backend held_by = holder(g);
    out.held_by = std::min(out.held_by, held_by);
    r.devices.push_back({g.uuid, g.kind, g.share_milli, g.memory_mib, g.mig_profile, g.mig, held_by});
  }
  THOLE_LET(out.record, write(r));
  const std::string list = visible(m);
  // Empty is a value, too: without it CUDA would show every GPU of the node to a job that was given none or simulated
  // ones.
  out.environment.push_back("CUDA_VISIBLE_DEVICES=" + list);
  if (!list.empty()) out.environment.push_back("CUDA_DEVICE_ORDER=PCI_BUS_ID");
  return out;
}

}  // namespace thole::partition
