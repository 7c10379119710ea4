#include "model/gang.h"

#include <set>

#include "model/node.h"

namespace thole::model {

namespace {

result<> check_devices(const role &r) {
  if (r.kind < device_kind::none || r.kind > device_kind::mig)
    return fail(reason::RequestBad, "role {}: there is no device kind {}", r.name, static_cast<int32_t>(r.kind));
  if ((r.devices == 0) != (r.kind == device_kind::none))
    return fail(reason::RequestBad, "role {}: devices is {}, which does not go with its device kind", r.name,
                r.devices);
  if (r.kind == device_kind::vgpu) {
    if (r.vgpu_memory_mib == 0) return fail(reason::RequestBad, "role {}: a vGPU needs its memory", r.name);
    if (r.vgpu_memory_mib > most_mib)
      return fail(reason::OverBound, "role {}: vGPU memory above {} MiB", r.name, most_mib);
    if (r.share_milli > whole_share)
      return fail(reason::RequestBad, "role {}: a share of {} thousandths is more than one GPU", r.name, r.share_milli);
  } else if (r.vgpu_memory_mib != 0 || r.share_milli != 0) {
    return fail(reason::RequestBad, "role {}: memory and share of a vGPU, but its devices are no vGPUs", r.name);
  }
  if ((r.kind == device_kind::mig) == r.mig_profile.empty())
    return fail(reason::RequestBad, "role {}: a MIG profile goes with MIG instances, and only with them", r.name);
  if (r.kind == device_kind::none && !r.gpu_model.empty())
    return fail(reason::RequestBad, "role {}: a GPU model, but no GPU", r.name);
  const uint32_t most = r.kind == device_kind::whole ? THOLE_MAX_GPUS : THOLE_MAX_GPUS * most_slices;
  if (r.devices > most)
    return fail(reason::OverBound, "role {}: {} devices a member; {} are the most", r.name, r.devices, most);
  return {};
}

result<> check(role &r, std::size_t index) {
  if (r.name.empty()) return fail(reason::RequestBad, "role {} has no name", index);
  if (r.members == 0) return fail(reason::RequestBad, "role {} has no members", r.name);
  if (r.members > THOLE_MAX_MEMBERS)
    return fail(reason::OverBound, "role {}: {} members; {} are the most", r.name, r.members, THOLE_MAX_MEMBERS);
  if (r.min_members > r.members)
    return fail(reason::RequestBad, "role {}: min_members {} is above members {}", r.name, r.min_members, r.members);
  if (r.min_members == 0) r.min_members = r.members;
  if (r.ranks_per_member == 0) r.ranks_per_member = 1;
  if (r.ranks_per_member > THOLE_MAX_RANKS_PER_MEMBER)
    return fail(reason::OverBound, "role {}: {} ranks a member; {} are the most", r.name, r.ranks_per_member,
                THOLE_MAX_RANKS_PER_MEMBER);
  if (r.cpu_milli > most_cpu_milli || r.memory_mib > most_mib)
    return fail(reason::OverBound, "role {}: cpu above {} or memory above {} MiB", r.name, most_cpu_milli, most_mib);
  return check_devices(r);
}

}  // namespace

result<> check(gang_request &request) {
  if (!request.gang) return fail(reason::RequestBad, "the gang's id is zero");
  if (request.roles.empty()) return fail(reason::RequestBad, "the gang has no roles");
  if (request.roles.size() > THOLE_MAX_ROLES)
    return fail(reason::OverBound, "the gang has {} roles; {} are the most", request.roles.size(), THOLE_MAX_ROLES);
  uint64_t members = 0, grants = 0;
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < request.roles.size(); ++i) {
    role &r = request.roles[i];
    THOLE_TRY(check(r, i));
    if (!names.insert(r.name).second) return fail(reason::RequestBad, "two roles have the name {}", r.name);
    members += r.members;
    grants += uint64_t{r.members} * r.devices;
  }
  if (members > THOLE_MAX_MEMBERS)
    return fail(reason::OverBound, "the gang has {} members; {} are the most", members, THOLE_MAX_MEMBERS);
  if (grants > most_grants)
    return fail(reason::OverBound, "the gang has {} devices; {} are the most", grants, most_grants);
  return {};
}

namespace {

result<> check_grant(const named_grant &g, const role &r, const placement &p) {
  if (g.kind != r.kind) return fail(reason::PlanBad, "member {} of role {} holds another kind", p.member, r.name);
  bool right = true;
  if (g.kind == device_kind::vgpu)
    right = g.memory_mib == r.vgpu_memory_mib && g.share_milli == r.share_milli && g.profile.empty();
  if (g.kind == device_kind::mig) right = g.profile == r.mig_profile;
  if (g.kind == device_kind::whole) right = g.profile.empty();
  if (!right) return fail(reason::PlanBad, "member {} of role {} holds another size than asked for", p.member, r.name);
  return {};
}

// A process sees a GPU once: two vGPUs of one member lie on two GPUs.
result<> check_apart(std::span<const named_grant> grants, const role &r, const placement &p) {
  std::set<std::string_view> uuids;
  for (const named_grant &g : grants)
    if (!uuids.insert(g.uuid).second)
      return fail(reason::PlanBad, "member {} of role {} holds two vGPUs of {}", p.member, r.name, g.uuid);
  return {};
}

}  // namespace

result<> check(const gang_plan &plan, const gang_request &request, bool adopt) {
  if (plan.gang != request.gang) return fail(reason::PlanBad, "the plan is of another gang than the request");
  std::vector<uint32_t> members(request.roles.size(), 0), next(request.roles.size(), 0);
  std::size_t last = 0;
  for (const placement &p : plan.placements) {
    if (p.role >= request.roles.size() || p.role < last)
      return fail(reason::PlanBad, "placements are not in the order of roles and members");
    last = p.role;
    const role &r = request.roles[p.role];
    // Of what runs already some members may be dead, and leave holes.
    if (adopt ? p.member < next[p.role] || p.member >= r.members : p.member != next[p.role])
      return fail(reason::PlanBad, "role {}: member {} is out of order", r.name, p.member);
    next[p.role] = p.member + 1;
    ++members[p.role];
    if (p.grants != r.devices)
      return fail(reason::PlanBad, "member {} of role {} holds {} devices, not {}", p.member, r.name, p.grants,
                  r.devices);
    const std::span grants = std::span(plan.grants).subspan(p.first_grant, p.grants);
    for (const named_grant &g : grants) THOLE_TRY(check_grant(g, r, p));
    if (!adopt && r.kind == device_kind::vgpu) THOLE_TRY(check_apart(grants, r, p));
  }
  if (plan.placements.empty()) return fail(reason::PlanBad, "the plan places nothing");
  for (std::size_t i = 0; i < members.size(); ++i)
    if ((!adopt && members[i] < request.roles[i].min_members) || members[i] > request.roles[i].members)
      return fail(reason::PlanBad, "role {} has {} members, not {} to {}", request.roles[i].name, members[i],
                  request.roles[i].min_members, request.roles[i].members);
  return {};
}

}  // namespace thole::model
