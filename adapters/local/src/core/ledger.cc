#include "core/ledger.h"

#include <cstdlib>
#include <set>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

namespace thole::local {
namespace {

constexpr int64_t reservation_ns = 60 * second_ns;
constexpr thole_str nvml_plugin = {"thole.device.nvml", 17};

thole_gang_query everything() {
  auto q = sized<thole_gang_query>();
  q.now_ns = wall_ns();
  return q;
}

std::string kind_text(thole_device_kind kind) {
  return kind == THOLE_KIND_WHOLE  ? "whole"
         : kind == THOLE_KIND_VGPU ? "vgpu"
         : kind == THOLE_KIND_MIG  ? "mig"
                                   : "none";
}

std::vector<member_state> members_of(const thole_plan &plan, const thole_gang_request &request) {
  std::vector<member_state> members;
  each<thole_placement>(plan.placements, [&](const thole_placement &p) {
    member_state m{p.role, p.member, p.first_rank, p.ranks == 0 ? 1 : p.ranks, {}, own(p.node), {}};
    if (p.role < request.roles.count) m.role_name = own(THOLE_AT(request.roles, thole_role, p.role)->name);
    each<thole_grant>(p.grants, [&](const thole_grant &g) {
      m.grants.push_back({own(g.uuid), kind_text(g.kind), g.memory_mib, g.share_milli, own(g.mig_profile), g.mig.start,
                          g.mig.size, (g.flags & THOLE_GPU_SIMULATED) != 0});
    });
    members.push_back(std::move(m));
  });
  return members;
}

// A gang request out of a job, with the memory that it lies in.
struct request_answer {
  answer_room room;
  thole_gang_request request = sized<thole_gang_request>();
};
result<std::unique_ptr<request_answer>> request_of(const library &core, const std::string &job_text, thole_id gang) {
  auto r = std::make_unique<request_answer>();
  THOLE_LET(const auto *job, core.job());
  THOLE_TRY(call_with_room(r->room, [&](thole_buffer *b, thole_status *s) {
    return job->gang(core.core(), borrow(job_text), gang, &r->request, b, s);
  }));
  return r;
}

// The GPUs of this machine. A job that asks for none runs where there is no driver.
result<> list_gpus(const library &core, bool needs_devices, answer_room &room, thole_gpu_list &list) {
  const std::string folder = plugin_folder();
  auto loaded = call([&](thole_status *s) { return core.root().core->load(core.core(), borrow(folder), s); });
  result<> listed;
  if (auto device = core.device(); !device) {
    listed = tl::unexpected(device.error());
  } else {
    listed = call_with_room(room, [&](thole_buffer *b, thole_status *s) {
      return (*device)->list(core.core(), nvml_plugin, THOLE_STR("{}"), &list, b, s);
    });
  }
  if (listed || !needs_devices) return {};
  if (!loaded && listed.error().reason == "PluginNotLoaded") return loaded;
  listed.error().message += "; a pool file with `simulated: true` (--pool) needs no GPU";
  return listed;
}

}  // namespace

std::string plugin_folder() {
  if (const char *chosen = std::getenv("THOLE_PLUGINS"); chosen != nullptr && *chosen != '\0') return chosen;
  const std::string library_folder = folder_of(library::path());
  const std::string installed = library_folder + "/thole/plugins";
  return exists(installed) ? installed : folder_of(library_folder) + "/plugins";  // as in a build tree
}

std::string ledger_name(const pool_choice &pool) {
  return pool.simulated ? "simulated-" + pool.name : "machine";
}

result<ledger> ledger::open(const layout &l, const pool_choice &pool, const std::string &metrics_file,
                            bool needs_devices) {
  ledger g;
  g.name_ = ledger_name(pool);
  g.folder_ = l.ledger(g.name_);
  g.real_ = !pool.simulated;
  THOLE_LET(g.gate_, file_lock::take(g.folder_ + ".gate", true));
  THOLE_LET(g.core_, library::open({g.folder_, metrics_file}));
  auto set = g.set_nodes(pool, needs_devices);
  if (!set && set.error().reason == "LevelsDiffer") {
    // The pool's file has other levels than before. Nobody holds anything: begin a new journal.
    THOLE_LET(const auto held, g.gangs());
    if (!held.empty()) return tl::unexpected(set.error());
    g.core_.reset();
    remove_tree(g.folder_);
    THOLE_LET(g.core_, library::open({g.folder_, metrics_file}));
    set = g.set_nodes(pool, needs_devices);
  }
  THOLE_TRY(set);
  return g;
}

result<> ledger::set_nodes(const pool_choice &pool, bool needs_devices) {
  THOLE_LET(const auto *gang, core_->gang());
  THOLE_LET(const auto *job, core_->job());
  answer_room gpu_room;
  auto gpus = sized<thole_gpu_list>();
  if (real_) THOLE_TRY(list_gpus(*core_, needs_devices, gpu_room, gpus));
  answer_room room;
  thole_list nodes{};
  thole_list levels{};
  THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *s) {
    return job->nodes(core_->core(), borrow(pool.text), THOLE_STR("local"), &gpus.gpus, &levels, &nodes, b, s);
  }));
  THOLE_TRY(call([&](thole_status *s) { return gang->set_levels(core_->core(), &levels, s); }));
  THOLE_TRY(remove_other_nodes(nodes));
  return call([&](thole_status *s) { return gang->set_nodes(core_->core(), &nodes, s); });
}

// A node that the pool's file no longer names takes nothing new.
result<> ledger::remove_other_nodes(const thole_list &nodes) {
  std::set<std::string> named;
  each<thole_node>(nodes, [&](const thole_node &n) { named.insert(own(n.name)); });
  std::set<std::string> gone;
  THOLE_LET(const json now, usage());
  for (const json &gpu : now)
    if (const auto node = gpu.at("node").get<std::string>(); named.count(node) == 0) gone.insert(node);
  for (const std::string &node : gone)
    THOLE_TRY(call([&](thole_status *s) { return core_->root().gang->remove_node(core_->core(), borrow(node), s); }));
  return {};
}

result<std::vector<member_state>> ledger::plan(const std::string &job_text, thole_id id) {
  THOLE_LET(const auto *gang, core_->gang());
  THOLE_LET(const auto request, request_of(*core_, job_text, id));
  answer_room room;
  auto plan = sized<thole_plan>();
  THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *s) {
    return gang->plan(core_->core(), &request->request, wall_ns(), &plan, b, s);
  }));
  return members_of(plan, request->request);
}

result<std::vector<member_state>> ledger::place(const std::string &job_text, thole_id id) {
  THOLE_LET(const auto *gang, core_->gang());
  THOLE_LET(const auto request, request_of(*core_, job_text, id));
  answer_room room;
  auto plan = sized<thole_plan>();
  THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *s) {
    return gang->plan(core_->core(), &request->request, wall_ns(), &plan, b, s);
  }));
  std::vector<member_state> members = members_of(plan, request->request);
  if (real_) {
    std::set<std::string> uuids;
    for (const member_state &m : members)
      for (const grant_state &grant : m.grants) uuids.insert(grant.uuid);
    THOLE_TRY(gpus_.take({uuids.begin(), uuids.end()}, folder_));
  }
  auto until = sized<thole_reservation>();
  until.now_ns = wall_ns();
  until.expires_ns = until.now_ns + reservation_ns;
  THOLE_TRY(call([&](thole_status *s) { return gang->reserve(core_->core(), &request->request, &plan, &until, s); }));
  auto confirmed = call([&](thole_status *s) { return gang->confirm(core_->core(), id, wall_ns(), s); });
  if (!confirmed) {
    auto undone = call([&](thole_status *s) { return gang->cancel(core_->core(), id, s); });
    if (!undone) warn("{}", undone.error().message);
    return tl::unexpected(confirmed.error());
  }
  return members;
}

result<explanation> ledger::explain(const std::string &job_text, thole_id id) {
  THOLE_LET(const auto *gang, core_->gang());
  THOLE_LET(const auto request, request_of(*core_, job_text, id));
  answer_room room;
  auto e = sized<thole_explanation>();
  THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *s) {
    return gang->explain(core_->core(), &request->request, wall_ns(), &e, b, s);
  }));
  explanation out;
  out.fits = e.fits == THOLE_FIT_YES;
  out.decided = e.fits != THOLE_FIT_UNDECIDED;
  out.reason = own(e.reason);
  out.message = own(e.message);
  out.details = {{"fits", out.fits},         {"decided", out.decided}, {"needed", e.needed},
                 {"available", e.available}, {"level", own(e.level)},  {"domain", own(e.domain)},
                 {"reason", out.reason},     {"message", out.message}, {"largestHoleMiB", e.largest_hole_mib}};
  if (!out.fits && e.role < request->request.roles.count)
    out.details["role"] = own(THOLE_AT(request->request.roles, thole_role, e.role)->name);
  json blockers = json::array();
  each<thole_blocker>(e.blockers, [&](const thole_blocker &b) {
    blockers.push_back({{"what", own(b.what)}, {"nodes", b.nodes}});
  });
  out.details["blockers"] = std::move(blockers);
  return out;
}

result<json> ledger::usage() {
  THOLE_LET(const auto *gang, core_->gang());
  answer_room room;
  auto usage = sized<thole_usage>();
  const thole_gang_query all = everything();
  THOLE_TRY(call_with_room(
      room, [&](thole_buffer *b, thole_status *s) { return gang->usage(core_->core(), &all, &usage, b, s); }));
  json gpus = json::array();
  each<thole_gpu_use>(usage.gpus, [&](const thole_gpu_use &g) {
    gpus.push_back({{"node", own(g.node)},
                    {"uuid", own(g.uuid)},
                    {"model", own(g.model)},
                    {"simulated", (g.flags & THOLE_GPU_SIMULATED) != 0},
                    {"healthy", (g.flags & THOLE_GPU_UNHEALTHY) == 0},
                    {"mig", (g.flags & THOLE_GPU_MIG) != 0},
                    {"holders", g.holders},
                    {"memoryMiB", g.memory_mib},
                    {"freeMemoryMiB", g.free_memory_mib},
                    {"freeShareMilli", g.free_share_milli}});
  });
  return gpus;
}

result<std::vector<thole_id>> ledger::gangs() {
  THOLE_LET(const auto *gang, core_->gang());
  answer_room room;
  auto list = sized<thole_plan_list>();
  const thole_gang_query all = everything();
  THOLE_TRY(call_with_room(
      room, [&](thole_buffer *b, thole_status *s) { return gang->gangs(core_->core(), &all, &list, b, s); }));
  std::vector<thole_id> ids;
  each<thole_plan>(list.plans, [&](const thole_plan &p) { ids.push_back(p.gang); });
  return ids;
}

result<> ledger::release(thole_id id) {
  THOLE_LET(const auto *gang, core_->gang());
  return call([&](thole_status *s) { return gang->release(core_->core(), id, s); });
}

}  // namespace thole::local
