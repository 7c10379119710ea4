// Taking a plan that came from outside: from plan(), or from the host's own database after a restart.
#include <algorithm>

#include "gang/engine.h"

namespace thole::gang {

using model::device_kind;
using model::gang_plan;
using model::gang_request;
using model::grant;

namespace {

// Which place on which device is meant; sizes are those that the device is described with now.
result<grant> locate_grant(ledger &state, uint32_t node, const model::named_grant &g, const wanted_role &role,
                           bool adopt) {
  const uint32_t device = state.find_device(node, g.uuid);
  if (device == ledger::no_node)
    return fail(reason::PlanBad, "node {} has no GPU {}", state.known(node).spec.name, g.uuid);
  const model::gpu &gpu = state.at(node).gpus[device];
  if (!adopt && role.want.device.model != 0 && role.want.device.model != gpu.model)
    return fail(reason::PlanBad, "GPU {} is a {}, which is not the model asked for", g.uuid,
                state.words().text(gpu.model));
  if (g.kind != device_kind::mig) return grant_of(gpu, role.want.device, device, {});

  if (g.mig.size == 0 || uint64_t{g.mig.start} + g.mig.size > model::most_slices)
    return fail(reason::PlanBad, "GPU {}: there is no MIG place {}:{}", g.uuid, g.mig.start, g.mig.size);
  model::device_want want = role.want.device;
  want.profile = state.words().intern(g.profile);
  const model::profile_shape *p = gpu.profile(want.profile);
  const bool offered =
      p != nullptr && std::find(p->placements.begin(), p->placements.end(), g.mig) != p->placements.end();
  if (!offered && !adopt)
    return fail(reason::PlanBad, "GPU {} does not offer MIG profile {} at {}:{}", g.uuid, g.profile, g.mig.start,
                g.mig.size);
  return grant_of(gpu, want, device, g.mig);
}

// The same places: what a device charges for them may have changed since.
bool same_places(const holding &a, const holding &b) {
  const auto place = [](const grant &x, const grant &y) {
    return x.device == y.device && x.kind == y.kind && x.profile == y.profile && x.mig == y.mig &&
           (x.kind != device_kind::vgpu || (x.memory_mib == y.memory_mib && x.share_milli == y.share_milli));
  };
  return a.members == b.members &&
         std::equal(a.grants.begin(), a.grants.end(), b.grants.begin(), b.grants.end(), place);
}

}  // namespace

result<holding> engine::locate(const gang_plan &plan, const wanted &what, bool adopt) {
  holding h;
  h.state = adopt ? model::gang_state::confirmed : model::gang_state::reserved;
  for (const model::placement &p : plan.placements) {
    // Members that follow one another often lie on one node.
    const bool same_node = !h.members.empty() && p.node == (&p - 1)->node;
    const uint32_t node = same_node ? h.members.back().node : state_.find_node(p.node);
    if (node == ledger::no_node) return fail(reason::PlanBad, "there is no node {}", p.node);
    const wanted_role &role = what.roles[p.role];
    if (!adopt && !state_.at(node).has(role.want.label))
      return fail(reason::PlanBad, "node {} does not have the label that role {} asks for", p.node, p.role);
    // The ranks of members that are dead are not given to others.
    const bool same_role = !h.members.empty() && h.members.back().role == p.role;
    h.ranks += (p.member - (same_role ? h.members.back().member + 1 : 0)) * role.ranks;
    // Nor are those of members that were the last of their role: only the platform knows of them.
    if (adopt && p.first_rank != 0) {
      if (p.first_rank < h.ranks)
        return fail(reason::PlanBad, "member {} of role {} has first_rank {}, and the members before it end at {}",
                    p.member, p.role, p.first_rank, h.ranks);
      h.ranks = p.first_rank;
    }
    h.members.push_back({p.role, p.member, h.ranks, role.ranks, node, static_cast<uint32_t>(h.grants.size()), 0,
                         role.want.cpu_milli, role.want.memory_mib});
    for (uint32_t i = 0; i < p.grants; ++i) {
      const model::named_grant &named = plan.grants[p.first_grant + i];
      // A GPU that fell off the bus cannot be given to others; what else the member has is its own all the same.
      if (adopt && state_.find_device(node, named.uuid) == ledger::no_node) continue;
      THOLE_LET(const grant g, locate_grant(state_, node, named, role, adopt));
      h.grants.push_back(g);
      ++h.members.back().grants;
    }
    h.ranks += role.ranks;
  }
  return h;
}

result<> engine::check_domains(const wanted &what, const holding &h) const {
  const model::topology &tree = state_.topology();
  std::vector<const held_member *> first(what.roles.size(), nullptr);
  for (const held_member &m : h.members) {
    if (tree.domain(what.widest, m.node) != tree.domain(what.widest, h.members.front().node))
      return fail(reason::PlanBad, "the members do not lie in one {}", tree.level_name(what.widest));
    const int level = what.roles[m.role].widest;
    if (first[m.role] == nullptr) first[m.role] = &m;
    if (tree.domain(level, m.node) != tree.domain(level, first[m.role]->node))
      return fail(reason::PlanBad, "the members of role {} do not lie in one {}", m.role, tree.level_name(level));
  }
  return {};
}

// Tentatively takes the places, one by one.
result<> engine::check_still_free(const holding &h) {
  for (const held_member &m : h.members) {
    const model::machine &at = state_.at(m.node);
    const std::string_view name = state_.words().text(at.name);
    if (!at.open()) return fail(reason::PlanStale, "node {} is cordoned: plan again", name);
    if ((m.cpu_milli > 0 && at.cpu_milli - at.used_cpu < m.cpu_milli) ||
        (m.memory_mib > 0 && at.memory_mib - at.used_memory < m.memory_mib))
      return fail(reason::PlanStale, "CPU or memory of node {} has been taken since: plan again", name);
    state_.hold(m.node, m.cpu_milli, m.memory_mib, {});
    for (const grant &g : h.of(m)) {
      if (!model::takes(at.gpus[g.device], g))
        return fail(reason::PlanStale, "device {} of node {} has been taken since: plan again",
                    state_.words().text(state_.known(m.node).uuids[g.device]), name);
      state_.hold(m.node, 0, 0, {&g, 1});
    }
  }
  return {};
}

result<> engine::reserve(const gang_request &request, const gang_plan &plan, const reservation &terms) {
  THOLE_TRY(model::check(plan, request, terms.adopt));
  if (!terms.adopt && terms.expires_ns != 0 && terms.expires_ns <= terms.now_ns)
    return fail(reason::ArgumentBad, "expires_ns {} is not after now_ns {}", terms.expires_ns, terms.now_ns);
  return changing([&]() -> result<> {
    state_.settle();
    THOLE_LET(const wanted what, compile(request));
    auto located = locate(plan, what, terms.adopt);
    if (const holding *own = live(request.gang, terms.now_ns)) {
      const bool same = located && same_places(*own, *located);
      if (!same && !terms.adopt)
        return fail(reason::GangExists, "gang {} holds other places already: release it, or use another id",
                    to_text(request.gang));
      if (same) return repeat(request.gang, *own, terms);
    }
    if (!located) return tl::unexpected(located.error());
    if (!terms.adopt) {
      located->expires_ns = terms.expires_ns;
      THOLE_TRY(check_domains(what, *located));
      const attempt trial(state_);
      give_back_expired(terms.now_ns);
      THOLE_TRY(check_still_free(*located));
    }
    return commit(gang_reserved{request.gang, std::move(*located), expired(terms.now_ns)});
  });
}

// The same again: at most its expiry, or that the platform runs it, is new.
result<> engine::repeat(id128 gang, const holding &own, const reservation &terms) {
  if (own.state == model::gang_state::confirmed) return {};
  if (terms.adopt) return commit(gang_was_confirmed{gang});
  return own.expires_ns == terms.expires_ns ? result<>{} : commit(expiry_set{gang, terms.expires_ns});
}

}  // namespace thole::gang
