// thole/gang.h.
#include <thole/gang.h>

#include <algorithm>

#include "capi/args.h"
#include "capi/guard.h"
#include "capi/room.h"
#include "capi/tables.h"

namespace thole {

namespace {

// --- from the caller

result<std::string> take_name(thole_str s, std::string_view what) {
  THOLE_LET(const std::string_view text, take_text(s, THOLE_MAX_NAME, what));
  return std::string(text);
}

// What goes into the record of an allocation, line by line, and into CUDA_VISIBLE_DEVICES.
result<std::string> take_line(thole_str s, uint64_t most, std::string_view what, bool is_word) {
  THOLE_LET(const std::string_view text, take_text(s, most, what));
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7F || (is_word && (u == ' ' || u == ',' || u > 0x7E)))
      return fail(reason::NodeBad, "{} '{}' holds a character that an allocation's record cannot", what, text);
  }
  return std::string(text);
}

result<model::mig_profile> take_profile(const thole_list &list, uint64_t i) {
  THOLE_LET(const thole_mig_profile given, take_at<thole_mig_profile>(list, i, "gpu.mig"));
  model::mig_profile out;
  THOLE_LET(out.name, take_name(given.name, "mig.name"));
  out.memory_mib = given.memory_mib;
  out.count = given.count;
  out.share_milli = given.share_milli;
  THOLE_TRY(check_list(given.placements, sizeof(thole_mig_place), model::most_slices, "mig.placements",
                       alignof(thole_mig_place)));
  for (uint64_t p = 0; p < given.placements.count; ++p) {
    const thole_mig_place at = *THOLE_AT(given.placements, thole_mig_place, p);
    out.placements.push_back({at.start, at.size});
  }
  return out;
}

result<model::device> take_gpu(const thole_list &list, uint64_t i) {
  THOLE_LET(const thole_gpu given, take_at<thole_gpu>(list, i, "node.gpus"));
  model::device out;
  THOLE_LET(out.uuid, take_line(given.uuid, THOLE_MAX_UUID, "gpu.uuid", true));
  THOLE_LET(out.model, take_name(given.model, "gpu.model"));
  out.memory_mib = given.memory_mib;
  out.context_mib = given.context_mib;
  out.flags = given.flags;
  out.max_vgpus = given.max_vgpus;
  THOLE_TRY(check_list(given.mig, 8, model::most_profiles, "gpu.mig"));
  for (uint64_t p = 0; p < given.mig.count; ++p) {
    THOLE_LET(model::mig_profile profile, take_profile(given.mig, p));
    out.mig.push_back(std::move(profile));
  }
  return out;
}

result<std::vector<std::string>> take_names(const thole_list &list, uint64_t most, std::string_view what) {
  THOLE_TRY(check_list(list, sizeof(thole_str), most, what));
  std::vector<std::string> out;
  for (uint64_t i = 0; i < list.count; ++i) {
    THOLE_LET(std::string name, take_name(*THOLE_AT(list, thole_str, i), what));
    out.push_back(std::move(name));
  }
  return out;
}

result<model::node> take_node(const thole_list &list, uint64_t i) {
  THOLE_LET(const thole_node given, take_at<thole_node>(list, i, "nodes"));
  model::node out;
  THOLE_LET(out.name, take_line(given.name, THOLE_MAX_NAME, "node.name", false));
  THOLE_LET(out.domains, take_names(given.domains, THOLE_MAX_LEVELS, "node.domains"));
  out.cpu_milli = given.cpu_milli;
  out.memory_mib = given.memory_mib;
  out.flags = given.flags;
  THOLE_TRY(check_reserved(given.reserved, "node"));
  THOLE_TRY(check_list(given.gpus, 8, THOLE_MAX_GPUS, "node.gpus"));
  for (uint64_t g = 0; g < given.gpus.count; ++g) {
    THOLE_LET(model::device gpu, take_gpu(given.gpus, g));
    out.devices.push_back(std::move(gpu));
  }
  THOLE_LET(out.labels, take_names(given.labels, THOLE_MAX_LABELS, "node.labels"));
  std::sort(out.labels.begin(), out.labels.end());
  out.labels.erase(std::unique(out.labels.begin(), out.labels.end()), out.labels.end());
  return out;
}

result<std::vector<model::nearness>> take_topology(const thole_list &list) {
  THOLE_TRY(check_list(list, 8, THOLE_MAX_LEVELS + 1, "topology"));
  std::vector<model::nearness> out;
  for (uint64_t i = 0; i < list.count; ++i) {
    THOLE_LET(const thole_topology given, take_at<thole_topology>(list, i, "topology"));
    THOLE_LET(const std::string_view level, take_text(given.level, THOLE_MAX_NAME, "topology.level"));
    THOLE_TRY(check_reserved(given.reserved, "topology"));
    if (given.mode != THOLE_TOPOLOGY_REQUIRED && given.mode != THOLE_TOPOLOGY_PREFERRED)
      return fail(reason::RequestBad, "topology {}: there is no mode {}", level, given.mode);
    out.push_back({level, given.mode == THOLE_TOPOLOGY_REQUIRED});
  }
  return out;
}

result<model::role> take_role(const thole_list &list, uint64_t i) {
  THOLE_LET(const thole_role given, take_at<thole_role>(list, i, "request.roles"));
  model::role out;
  THOLE_LET(out.name, take_text(given.name, THOLE_MAX_NAME, "role.name"));
  out.members = given.members;
  out.min_members = given.min_members;
  out.ranks_per_member = given.ranks_per_member;
  out.kind = static_cast<model::device_kind>(given.device_kind);
  out.devices = given.devices;
  out.share_milli = given.vgpu_share_milli;
  out.vgpu_memory_mib = given.vgpu_memory_mib;
  THOLE_LET(out.mig_profile, take_text(given.mig_profile, THOLE_MAX_NAME, "role.mig_profile"));
  THOLE_LET(out.gpu_model, take_text(given.gpu_model, THOLE_MAX_NAME, "role.gpu_model"));
  out.cpu_milli = given.cpu_milli;
  out.memory_mib = given.memory_mib;
  THOLE_LET(out.topology, take_topology(given.topology));
  THOLE_LET(out.label, take_text(given.label, THOLE_MAX_NAME, "role.label"));
  return out;
}

result<model::gang_request> take_request(const thole_gang_request *request) {
  THOLE_LET(const thole_gang_request given, take(request, "request"));
  model::gang_request out;
  out.gang = from_c(given.gang);
  THOLE_TRY(check_list(given.roles, 8, THOLE_MAX_ROLES, "request.roles"));
  for (uint64_t i = 0; i < given.roles.count; ++i) {
    THOLE_LET(model::role role, take_role(given.roles, i));
    out.roles.push_back(std::move(role));
  }
  THOLE_LET(out.topology, take_topology(given.topology));
  THOLE_TRY(model::check(out));
  return out;
}

result<model::named_grant> take_grant(const thole_list &list, uint64_t i) {
  THOLE_LET(const thole_grant given, take_at<thole_grant>(list, i, "placement.grants"));
  model::named_grant out;
  THOLE_LET(out.uuid, take_text(given.uuid, THOLE_MAX_NAME, "grant.uuid"));
  THOLE_LET(out.profile, take_text(given.mig_profile, THOLE_MAX_NAME, "grant.mig_profile"));
  out.kind = static_cast<model::device_kind>(given.kind);
  out.share_milli = given.share_milli;
  out.memory_mib = given.memory_mib;
  out.mig = {given.mig.start, given.mig.size};
  return out;
}

// Of a plan only what reserve reads: gang and placements.
result<model::gang_plan> take_plan(const thole_plan *plan) {
  THOLE_LET(const thole_plan given, take(plan, "plan"));
  model::gang_plan out;
  out.gang = from_c(given.gang);
  THOLE_TRY(check_list(given.placements, 8, THOLE_MAX_MEMBERS, "plan.placements"));
  for (uint64_t i = 0; i < given.placements.count; ++i) {
    THOLE_LET(const thole_placement p, take_at<thole_placement>(given.placements, i, "plan.placements"));
    model::placement at;
    at.role = p.role;
    at.member = p.member;
    at.first_rank = p.first_rank;
    THOLE_LET(at.node, take_text(p.node, THOLE_MAX_NAME, "placement.node"));
    THOLE_TRY(check_list(p.grants, 8, uint64_t{THOLE_MAX_GPUS} * model::most_slices, "placement.grants"));
    at.first_grant = static_cast<uint32_t>(out.grants.size());
    at.grants = static_cast<uint32_t>(p.grants.count);
    // Together they can be no more than all GPUs of all nodes can be cut into.
    if (out.grants.size() + p.grants.count > model::most_grants)
      return fail(reason::OverBound, "the plan has more than {} grants", model::most_grants);
    for (uint64_t g = 0; g < p.grants.count; ++g) {
      THOLE_LET(const model::named_grant grant, take_grant(p.grants, g));
      out.grants.push_back(grant);
    }
    out.placements.push_back(at);
  }
  return out;
}

// --- to the caller

thole_plan lay_out(const model::gang_plan &p, room &r) {
  thole_plan out{};
  out.struct_size = sizeof out;
  out.gang = to_c(p.gang);
  out.state = static_cast<thole_gang_state>(p.state);
  out.ranks = p.ranks;
  out.revision = p.revision;
  out.expires_ns = p.expires_ns;
  auto *placements = r.array<thole_placement>(p.placements.size());
  auto *grants = r.array<thole_grant>(p.grants.size());
  for (std::size_t i = 0; i < p.grants.size(); ++i) {
    const model::named_grant &g = p.grants[i];
    grants[i] = {sizeof(thole_grant),
                 r.text(g.uuid),
                 static_cast<thole_device_kind>(g.kind),
                 g.share_milli,
                 g.memory_mib,
                 r.text(g.profile),
                 {g.mig.start, g.mig.size},
                 g.flags,
                 0,
                 g.context_mib};
  }
  std::string_view last;
  thole_str name{};
  for (std::size_t i = 0; i < p.placements.size(); ++i) {
    const model::placement &at = p.placements[i];
    // Members that follow one another on a node share its name.
    if (at.node != last || i == 0) name = r.text(last = at.node);
    placements[i] = {sizeof(thole_placement),
                     at.role,
                     at.member,
                     at.first_rank,
                     at.ranks,
                     name,
                     room::list(grants + at.first_grant, at.grants)};
  }
  out.placements = room::list(placements, p.placements.size());
  return out;
}

thole_code set_levels(thole_core core, const thole_list *levels, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    if (levels == nullptr) return fail(reason::ArgumentMissing, "levels is NULL");
    THOLE_LET(std::vector<std::string> names, take_names(*levels, THOLE_MAX_LEVELS, "levels"));
    return in.gangs->set_levels(std::move(names));
  });
}

thole_code set_nodes(thole_core core, const thole_list *nodes, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    if (nodes == nullptr) return fail(reason::ArgumentMissing, "nodes is NULL");
    THOLE_TRY(check_list(*nodes, 8, THOLE_MAX_NODES, "nodes"));
    std::vector<model::node> all;
    for (uint64_t i = 0; i < nodes->count; ++i) {
      THOLE_LET(model::node n, take_node(*nodes, i));
      all.push_back(std::move(n));
    }
    return in.gangs->set_nodes(std::move(all));
  });
}

thole_code remove_node(thole_core core, thole_str name, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    THOLE_LET(const std::string_view text, take_text(name, THOLE_MAX_NAME, "name"));
    return in.gangs->remove_node(text);
  });
}

thole_code plan(thole_core core, const thole_gang_request *request, int64_t now_ns, thole_plan *plan,
                thole_buffer *buffer, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    room r(buffer);
    THOLE_TRY(r.check());
    THOLE_LET(const model::gang_request wanted, take_request(request));
    THOLE_LET(const model::gang_plan found, in.gangs->plan(wanted, now_ns));
    const thole_plan out = lay_out(found, r);
    THOLE_TRY(r.finish());
    return give(plan, out, "plan");
  });
}

thole_code explain(thole_core core, const thole_gang_request *request, int64_t now_ns, thole_explanation *explanation,
                   thole_buffer *buffer, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    room r(buffer);
    THOLE_TRY(r.check());
    THOLE_LET(const model::gang_request wanted, take_request(request));
    THOLE_LET(const gang::explanation why, in.gangs->explain(wanted, now_ns));
    thole_explanation out{};
    out.fits = why.fits ? THOLE_FIT_YES : why.why == reason::GangSearchBound ? THOLE_FIT_UNDECIDED : THOLE_FIT_NO;
    if (!why.fits) {
      out.needed = why.needed;
      out.available = why.available;
      out.role = why.role;
      out.level = r.text(why.level);
      out.domain = r.text(why.domain);
      out.reason = r.text(name_of(why.why));
      out.message = r.text(why.message);
      auto *blockers = r.array<thole_blocker>(why.blockers.size());
      for (std::size_t i = 0; i < why.blockers.size(); ++i)
        blockers[i] = {sizeof(thole_blocker), r.text(why.blockers[i].what), why.blockers[i].nodes};
      out.blockers = room::list(blockers, why.blockers.size());
      out.largest_hole_mib = why.largest_hole_mib;
    }
    THOLE_TRY(r.finish());
    return give(explanation, out, "explanation");
  });
}

thole_code reserve(thole_core core, const thole_gang_request *request, const thole_plan *plan,
                   const thole_reservation *reservation, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    THOLE_LET(const thole_reservation terms, take(reservation, "reservation"));
    if ((terms.flags & ~THOLE_RESERVE_ADOPT) != 0)
      return fail(reason::ArgumentBad, "reservation.flags has unknown bits: {:#x}", terms.flags);
    THOLE_LET(const model::gang_request wanted, take_request(request));
    THOLE_LET(const model::gang_plan places, take_plan(plan));
    return in.gangs->reserve(wanted, places,
                             {terms.now_ns, terms.expires_ns, (terms.flags & THOLE_RESERVE_ADOPT) != 0});
  });
}

thole_code confirm(thole_core core, thole_id gang, int64_t now_ns, thole_status *status) {
  return with_core(core, status, [&](instance &in) { return in.gangs->confirm(from_c(gang), now_ns); });
}

thole_code cancel(thole_core core, thole_id gang, thole_status *status) {
  return with_core(core, status, [&](instance &in) { return in.gangs->cancel(from_c(gang)); });
}

thole_code release(thole_core core, thole_id gang, thole_status *status) {
  return with_core(core, status, [&](instance &in) { return in.gangs->release(from_c(gang)); });
}

thole_code gangs(thole_core core, const thole_gang_query *query, thole_plan_list *list, thole_buffer *buffer,
                 thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    room r(buffer);
    THOLE_TRY(r.check());
    THOLE_LET(const thole_gang_query asked, take(query, "query"));
    THOLE_LET(const std::string_view node, take_text(asked.node, THOLE_MAX_NAME, "query.node"));
    THOLE_LET(const auto held, in.gangs->gangs(from_c(asked.gang), node, asked.now_ns));
    auto *plans = r.array<thole_plan>(held.size());
    for (std::size_t i = 0; i < held.size(); ++i) plans[i] = lay_out(held[i], r);
    THOLE_TRY(r.finish());
    return give(list, thole_plan_list{0, room::list(plans, held.size())}, "list");
  });
}

thole_code usage(thole_core core, const thole_gang_query *query, thole_usage *usage, thole_buffer *buffer,
                 thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    room r(buffer);
    THOLE_TRY(r.check());
    THOLE_LET(const thole_gang_query asked, take(query, "query"));
    THOLE_LET(const std::string_view node, take_text(asked.node, THOLE_MAX_NAME, "query.node"));
    THOLE_LET(const gang::usage now, in.gangs->usage(node, asked.now_ns));
    auto *gpus = r.array<thole_gpu_use>(now.devices.size());
    for (std::size_t i = 0; i < now.devices.size(); ++i) {
      const gang::device_use &d = now.devices[i];
      gpus[i] = {sizeof(thole_gpu_use),
                 r.text(d.node),
                 r.text(d.uuid),
                 r.text(d.model),
                 d.flags,
                 d.holders,
                 d.memory_mib,
                 d.free_memory_mib,
                 d.free_share_milli,
                 0};
    }
    THOLE_TRY(r.finish());
    return give(usage, thole_usage{0, now.revision, now.digest, room::list(gpus, now.devices.size())}, "usage");
  });
}

constexpr thole_gang_api table = {sizeof(thole_gang_api),
                                  set_levels,
                                  set_nodes,
                                  remove_node,
                                  plan,
                                  explain,
                                  reserve,
                                  confirm,
                                  cancel,
                                  release,
                                  gangs,
                                  usage};

}  // namespace

constinit const thole_gang_api gang_table = table;

}  // namespace thole
