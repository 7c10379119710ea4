#include "model/device.h"

#include <algorithm>
#include <set>
#include <string_view>

namespace thole::model {

namespace {

result<> check(const mig_profile &p, const device &d) {
  if (p.name.empty()) return fail(reason::NodeBad, "a MIG profile of {} has no name", d.uuid);
  if (p.memory_mib > most_mib) return fail(reason::OverBound, "MIG profile {}: memory above {} MiB", p.name, most_mib);
  if (p.share_milli > whole_share)
    return fail(reason::NodeBad, "MIG profile {} of {}: share_milli {} is above 1000", p.name, d.uuid, p.share_milli);
  for (const mig_placement &at : p.placements)
    if (at.size == 0 || at.size > most_slices || at.start >= most_slices || at.start + at.size > most_slices)
      return fail(reason::NodeBad, "MIG profile {} of {}: no GPU has a placement {}:{}", p.name, d.uuid, at.start,
                  at.size);
  if (p.placements.size() > most_slices)
    return fail(reason::OverBound, "MIG profile {} of {} has {} placements; {} are the most", p.name, d.uuid,
                p.placements.size(), most_slices);
  return {};
}

}  // namespace

result<> check(const device &d) {
  if (d.uuid.empty()) return fail(reason::NodeBad, "a device has no uuid");
  if (d.memory_mib == 0) return fail(reason::NodeBad, "device {} reports no memory", d.uuid);
  if (d.memory_mib > most_mib || d.context_mib > most_mib)
    return fail(reason::OverBound, "device {}: memory above {} MiB", d.uuid, most_mib);
  if (d.max_vgpus > most_vgpus)
    return fail(reason::OverBound, "device {}: max_vgpus {} is above {}", d.uuid, d.max_vgpus, most_vgpus);
  constexpr uint32_t known = THOLE_GPU_SIMULATED | THOLE_GPU_UNHEALTHY | THOLE_GPU_MIG;
  if ((d.flags & ~known) != 0) return fail(reason::NodeBad, "device {}: unknown flags {:#x}", d.uuid, d.flags);
  if (d.mig.size() > most_profiles)
    return fail(reason::OverBound, "device {} has {} MIG profiles; {} are the most", d.uuid, d.mig.size(),
                most_profiles);
  std::set<std::string_view> names;
  for (const mig_profile &p : d.mig) {
    THOLE_TRY(check(p, d));
    if (!names.insert(p.name).second)
      return fail(reason::NodeBad, "device {} lists the MIG profile {} twice", d.uuid, p.name);
  }
  return {};
}

uint64_t gpu::slices() const noexcept {
  uint64_t mask = 0;
  for (const auto &[name, at] : instances) mask |= mask_of(at);
  return mask;
}

uint32_t gpu::instances_of(uint32_t name) const noexcept {
  uint32_t n = 0;
  for (const auto &[held, at] : instances) n += held == name ? 1 : 0;
  return n;
}

const profile_shape *gpu::profile(uint32_t name) const noexcept {
  for (const profile_shape &p : profiles)
    if (p.name == name) return &p;
  return nullptr;
}

bool gpu::overcommitted() const noexcept {
  if (holders() == 0) return false;
  if (wholes > 1 || vgpus > max_vgpus) return true;
  if ((wholes > 0) + (vgpus > 0) + (!instances.empty()) > 1) return true;
  uint32_t sizes = 0;
  for (const auto &[name, at] : instances) sizes += at.size;
  if (sizes != static_cast<uint32_t>(__builtin_popcountll(slices()))) return true;
  return vgpus > 0 && (used_mib > memory_mib || used_share > whole_share);
}

int64_t gpu::hole_mib() const noexcept {
  if (!healthy() || in_mig_mode() || wholes > 0 || !instances.empty() || vgpus >= max_vgpus) return -1;
  return std::max<int64_t>(0, memory_mib - used_mib - context_mib);
}

uint32_t most_instances(const profile_shape &p, uint64_t occupied, uint32_t already) noexcept {
  if (already >= p.count) return 0;
  uint32_t n = 0;
  for (uint32_t i : p.by_end) {
    const uint64_t mask = mask_of(p.placements[i]);
    if ((occupied & mask) != 0) continue;
    occupied |= mask;
    if (++n == p.count - already) break;
  }
  return n;
}

namespace {

// What stands against `w` whatever is held: mode, health, model.
bool suits(const gpu &g, device_kind kind, uint32_t model) noexcept {
  if (!g.healthy() || g.overcommitted() || (model != 0 && model != g.model)) return false;
  return g.in_mig_mode() == (kind == device_kind::mig);
}

uint32_t vgpus_in(const gpu &g, const device_want &w, uint32_t count, int64_t memory, int64_t share) noexcept {
  int64_t n = count;
  const int64_t each = w.memory_mib + g.context_mib;
  if (each > 0) n = std::min(n, std::max<int64_t>(0, memory) / each);
  if (w.share_milli > 0) n = std::min(n, std::max<int64_t>(0, share) / w.share_milli);
  return static_cast<uint32_t>(n);
}

uint32_t vgpu_slots(const gpu &g, const device_want &w) noexcept {
  if (g.wholes > 0 || !g.instances.empty() || g.vgpus >= g.max_vgpus) return 0;
  return vgpus_in(g, w, g.max_vgpus - g.vgpus, g.memory_mib - g.used_mib, whole_share - g.used_share);
}

}  // namespace

uint32_t slots(const gpu &g, const device_want &w) noexcept {
  if (!suits(g, w.kind, w.model)) return 0;
  switch (w.kind) {
    case device_kind::none:
      return 0;
    case device_kind::whole:
      return g.holders() == 0 ? 1 : 0;
    case device_kind::vgpu:
      return vgpu_slots(g, w);
    case device_kind::mig: {
      if (g.wholes > 0 || g.vgpus > 0) return 0;
      const profile_shape *p = g.profile(w.profile);
      return p == nullptr ? 0 : most_instances(*p, g.slices(), g.instances_of(w.profile));
    }
  }
  return 0;
}

uint32_t capacity(const gpu &g, const device_want &w) noexcept {
  if ((w.model != 0 && w.model != g.model) || g.in_mig_mode() != (w.kind == device_kind::mig)) return 0;
  if (w.kind == device_kind::vgpu) return vgpus_in(g, w, g.max_vgpus, g.memory_mib, whole_share);
  if (w.kind == device_kind::whole) return 1;
  const profile_shape *p = g.profile(w.profile);
  return p == nullptr ? 0 : most_instances(*p, 0, 0);
}

namespace {

// How much is still possible for all profiles: each free placement counts with its size.
uint64_t freedom(const gpu &g, uint64_t occupied) noexcept {
  uint64_t sum = 0;
  for (const profile_shape &p : g.profiles)
    for (const mig_placement &at : p.placements)
      if ((mask_of(at) & occupied) == 0) sum += at.size;
  return sum;
}

std::optional<mig_placement> choose_place(const gpu &g, const profile_shape &p) noexcept {
  const uint64_t occupied = g.slices();
  const uint32_t already = g.instances_of(p.name);
  const uint32_t before = most_instances(p, occupied, already);
  if (before == 0) return std::nullopt;
  std::optional<mig_placement> best;
  uint64_t best_freedom = 0;
  for (const mig_placement &at : p.placements) {
    const uint64_t mask = mask_of(at);
    if ((mask & occupied) != 0 || most_instances(p, occupied | mask, already + 1) + 1 != before) continue;
    const uint64_t left = freedom(g, occupied | mask);
    if (!best || left > best_freedom || (left == best_freedom && at < *best)) best = at, best_freedom = left;
  }
  return best;
}

}  // namespace

void charge(grant &what, const gpu &g) noexcept {
  if (what.kind == device_kind::whole) {
    what.share_milli = whole_share;
    what.memory_mib = what.charged_mib = g.memory_mib;
  } else if (what.kind == device_kind::vgpu) {
    what.charged_mib = what.memory_mib + g.context_mib;
  } else if (const profile_shape *p = g.profile(what.profile); what.kind == device_kind::mig && p != nullptr) {
    what.share_milli = p->share_milli;
    what.memory_mib = what.charged_mib = p->memory_mib;
  }
}

grant grant_of(const gpu &g, const device_want &w, uint32_t device, mig_placement at) noexcept {
  grant out;
  out.device = device;
  out.kind = w.kind;
  out.profile = w.kind == device_kind::mig ? w.profile : 0;
  out.share_milli = w.share_milli;
  out.memory_mib = w.memory_mib;
  out.mig = at;
  charge(out, g);
  return out;
}

std::optional<grant> choose(const gpu &g, const device_want &w) {
  if (slots(g, w) == 0) return std::nullopt;
  mig_placement at;
  if (w.kind == device_kind::mig) {
    const auto place = choose_place(g, *g.profile(w.profile));
    if (!place) return std::nullopt;
    at = *place;
  }
  return grant_of(g, w, 0, at);
}

bool takes(const gpu &g, const grant &wanted) noexcept {
  const device_want w{wanted.kind, 0, wanted.profile, wanted.share_milli, wanted.memory_mib};
  if (!suits(g, wanted.kind, 0)) return false;
  if (wanted.kind != device_kind::mig) return slots(g, w) > 0;
  const profile_shape *p = g.profile(wanted.profile);
  return p != nullptr && g.wholes == 0 && g.vgpus == 0 && g.instances_of(wanted.profile) < p->count &&
         (mask_of(wanted.mig) & g.slices()) == 0;
}

void hold(gpu &g, const grant &what) {
  if (what.kind == device_kind::mig) g.instances.emplace_back(what.profile, what.mig);  // all that can fail
  g.used_mib += what.charged_mib;
  g.used_share += what.share_milli;
  if (what.kind == device_kind::whole) ++g.wholes;
  if (what.kind == device_kind::vgpu) ++g.vgpus;
}

void give_back(gpu &g, const grant &what) noexcept {
  g.used_mib -= what.charged_mib;
  g.used_share -= what.share_milli;
  if (what.kind == device_kind::whole) --g.wholes;
  if (what.kind == device_kind::vgpu) --g.vgpus;
  if (what.kind != device_kind::mig) return;
  const auto it = std::find(g.instances.begin(), g.instances.end(), std::pair{what.profile, what.mig});
  if (it != g.instances.end()) g.instances.erase(it);
}

}  // namespace thole::model
