#include "gang/pack.h"

#include <algorithm>

namespace thole::gang {

using model::device_kind;
using model::device_want;
using model::gpu;
using model::grant;
using model::machine;
using model::member_want;

namespace {

// One GPU, several kinds of device.
class mixture {
 public:
  mixture(const gpu &g, std::span<const device_want> wants, effort &budget) : g_(g), wants_(wants), budget_(budget) {}

  // On yes, places() are those of the MIG instances, in the order of the wants.
  verdict holds(const counts &n) {
    uint32_t whole = 0, vgpu = 0, mig = 0;
    for (std::size_t i = 0; i < n.size(); ++i) {
      if (n[i] == 0) continue;
      if (slots(g_, wants_[i]) < n[i]) return verdict::no;
      if (wants_[i].kind == device_kind::whole) whole += n[i];
      if (wants_[i].kind == device_kind::vgpu) vgpu += n[i];
      if (wants_[i].kind == device_kind::mig) mig += n[i];
    }
    if ((whole > 0) + (vgpu > 0) + (mig > 0) > 1 || whole > 1) return verdict::no;
    if (vgpu > 0) return shares_fit(n, vgpu) ? verdict::yes : verdict::no;
    return mig > 0 ? instances_fit(n) : verdict::yes;
  }
  const std::vector<model::mig_placement> &places() const { return places_; }

 private:
  bool shares_fit(const counts &n, uint32_t all) const {
    int64_t memory = 0, share = 0;
    for (std::size_t i = 0; i < n.size(); ++i) {
      memory += int64_t{n[i]} * (wants_[i].memory_mib + g_.context_mib);
      share += int64_t{n[i]} * wants_[i].share_milli;
    }
    return memory <= g_.memory_mib - g_.used_mib && (share == 0 || share <= model::whole_share - g_.used_share) &&
           all <= g_.max_vgpus - g_.vgpus;
  }

  verdict instances_fit(const counts &n) {
    // Roles that want the same profile share its count.
    for (std::size_t i = 0; i < n.size(); ++i) {
      uint32_t same = g_.instances_of(wants_[i].profile);
      for (std::size_t j = 0; j < n.size(); ++j) same += wants_[j].profile == wants_[i].profile ? n[j] : 0;
      if (n[i] > 0 && same > g_.profile(wants_[i].profile)->count) return verdict::no;
    }
    places_.clear();
    return lay(n, 0, 0, 0, g_.slices());
  }

  // Lays instance `k` of want `i` and all after it. Instances of one want go from left to right, so that no order of
  // equal ones is tried twice.
  verdict lay(const counts &n, std::size_t i, uint32_t k, std::size_t from, uint64_t occupied) {
    while (i < n.size() && k == n[i]) ++i, k = 0, from = 0;
    if (i == n.size()) return verdict::yes;
    if (!budget_.spend()) return verdict::unknown;
    const auto &profile = *g_.profile(wants_[i].profile);
    for (std::size_t p = from; p < profile.by_end.size(); ++p) {
      const model::mig_placement at = profile.placements[profile.by_end[p]];
      if ((model::mask_of(at) & occupied) != 0) continue;
      places_.push_back(at);
      const verdict v = lay(n, i, k + 1, p + 1, occupied | model::mask_of(at));
      if (v != verdict::no) return v;
      places_.pop_back();
    }
    return verdict::no;
  }

  const gpu &g_;
  std::span<const device_want> wants_;
  effort &budget_;
  std::vector<model::mig_placement> places_;
};

// Grants of GPU after GPU, dealt out to members in turn: no GPU has more of them than there are members, so none comes
// to the same member twice.
std::vector<grant> deal(const std::vector<grant> &grants, uint32_t members) {
  std::vector<grant> out;
  out.reserve(grants.size());
  for (uint32_t m = 0; m < members; ++m)
    for (std::size_t i = m; i < grants.size(); i += members) out.push_back(grants[i]);
  return out;
}

}  // namespace

verdict pack(const machine &node, std::span<const member_want> roles, std::span<const uint32_t> members, effort &budget,
             std::vector<std::vector<grant>> *out) {
  int64_t cpu = 0, memory = 0;
  std::vector<device_want> wants;
  std::vector<std::size_t> role_of;
  counts demand, most_each;
  for (std::size_t r = 0; r < roles.size(); ++r) {
    if (members[r] == 0) continue;
    if (!node.open()) return verdict::no;
    cpu += int64_t{members[r]} * roles[r].cpu_milli;
    memory += int64_t{members[r]} * roles[r].memory_mib;
    if (roles[r].devices == 0) continue;
    wants.push_back(roles[r].device);
    role_of.push_back(r);
    demand.push_back(members[r] * roles[r].devices);
    // Of one GPU each member takes one vGPU at most. As many as that can always be dealt out, see deal().
    most_each.push_back(apart(roles[r]) ? members[r] : demand.back());
  }
  // A resource that nobody asks for does not stand in the way, even where more is held than there is now.
  if ((cpu > 0 && cpu > node.cpu_milli - node.used_cpu) || (memory > 0 && memory > node.memory_mib - node.used_memory))
    return verdict::no;
  if (out != nullptr) out->assign(roles.size(), {});
  if (wants.empty()) return verdict::yes;

  cover split(
      static_cast<uint32_t>(node.gpus.size()), demand,
      [&](uint32_t g, uint32_t t) { return std::min(slots(node.gpus[g], wants[t]), most_each[t]); },
      [&](uint32_t g, const counts &n) { return mixture(node.gpus[g], wants, budget).holds(n); }, budget);
  std::vector<counts> picks;
  const verdict v = split.run(picks);
  if (v != verdict::yes || out == nullptr) return v;
  for (uint32_t g = 0; g < picks.size(); ++g) {
    // A bin may have been offered more than was left to give.
    for (std::size_t t = 0; t < wants.size(); ++t)
      picks[g][t] = std::min(picks[g][t], demand[t]), demand[t] -= picks[g][t];
    mixture m(node.gpus[g], wants, budget);
    if (m.holds(picks[g]) != verdict::yes) return verdict::unknown;  // only if the bound is reached here
    std::size_t place = 0;
    for (std::size_t t = 0; t < wants.size(); ++t)
      for (uint32_t i = 0; i < picks[g][t]; ++i) {
        const bool mig = wants[t].kind == device_kind::mig;
        (*out)[role_of[t]].push_back(
            grant_of(node.gpus[g], wants[t], g, mig ? m.places()[place++] : model::mig_placement{}));
      }
  }
  for (std::size_t r = 0; r < roles.size(); ++r)
    if (members[r] > 1 && apart(roles[r])) (*out)[r] = deal((*out)[r], members[r]);
  return v;
}

}  // namespace thole::gang
