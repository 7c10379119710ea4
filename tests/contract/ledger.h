// A small cluster behind the gang service, and calls in a form that tests can be read in: every answer is the name of a
// reason, "" for THOLE_OK.
#pragma once

#include <deque>
#include <memory>

#include "host.h"

namespace host {

constexpr uint64_t gib = 1024;  // MiB

struct node_text {
  std::string name;
  std::vector<std::string> domains;
  int gpus = 2;
  uint32_t flags = 0;
  std::string prefix = "";  // of the uuids; the node's name where it is empty
  uint32_t gpu_flags = THOLE_GPU_SIMULATED;
  uint64_t gpu_mib = 80 * gib;
};

class ledger {
 public:
  explicit ledger(const std::string &state = "", std::vector<std::string> levels = {"rack"}) {
    thole_status s = sized<thole_status>();
    auto options = sized<thole_core_options>();
    options.state = str(state);
    EXPECT_EQ(root()->core->open(&options, &core, &s), THOLE_OK) << s.message;
    if (!levels.empty()) {
      EXPECT_EQ(set_levels(levels), "");
    }
  }
  ledger(const ledger &) = delete;
  ledger &operator=(const ledger &) = delete;
  ~ledger() {
    if (core.v != 0) root()->core->close(core, nullptr);
  }

  std::string set_levels(const std::vector<std::string> &names) {
    std::vector<thole_str> texts;
    for (const auto &n : names) texts.push_back(str(n));
    const thole_list l = list(texts);
    return said(t->set_levels(core, &l, fresh()));
  }
  std::string set_nodes(const std::vector<node_text> &nodes) {
    std::vector<thole_node> all;
    std::deque<std::vector<thole_gpu>> gpus;
    std::deque<std::vector<thole_str>> domains;
    std::deque<std::string> uuids;
    for (const node_text &n : nodes) {
      auto node = sized<thole_node>();
      auto &cards = gpus.emplace_back();
      for (int g = 0; g < n.gpus; ++g) {
        auto gpu = sized<thole_gpu>();
        gpu.uuid = str(uuids.emplace_back((n.prefix.empty() ? n.name : n.prefix) + "-" + std::to_string(g)));
        gpu.model = THOLE_STR("M");
        gpu.memory_mib = n.gpu_mib;
        gpu.context_mib = 500;
        gpu.flags = n.gpu_flags;
        cards.push_back(gpu);
      }
      auto &names = domains.emplace_back();
      for (const std::string &d : n.domains) names.push_back(str(d));
      node.name = str(n.name);
      node.domains = list(names);
      node.cpu_milli = 8000;
      node.memory_mib = 64 * gib;
      node.flags = n.flags;
      node.gpus = list(cards);
      all.push_back(node);
    }
    const thole_list l = list(all);
    return said(t->set_nodes(core, &l, fresh()));
  }
  std::string remove_node(const std::string &name) { return said(t->remove_node(core, str(name), fresh())); }

  std::string plan(const thole_gang_request &q, int64_t now = 0) {
    answer = sized<thole_plan>();
    return said(t->plan(core, &q, now, &answer, &memory->room, fresh()));
  }
  std::string explain(const thole_gang_request &q, int64_t now = 0) {
    why = sized<thole_explanation>();
    return said(t->explain(core, &q, now, &why, &other->room, fresh()));
  }
  std::string reserve(const thole_gang_request &q, const thole_plan &p, int64_t now = 0, int64_t expires = 0,
                      uint32_t flags = 0) {
    auto terms = sized<thole_reservation>();
    terms.now_ns = now;
    terms.expires_ns = expires;
    terms.flags = flags;
    return said(t->reserve(core, &q, &p, &terms, fresh()));
  }
  std::string take(const thole_gang_request &q, int64_t now = 0, int64_t expires = 0) {
    const std::string planned = plan(q, now);
    return planned.empty() ? reserve(q, answer, now, expires) : planned;
  }
  std::string confirm(uint64_t gang, int64_t now = 0) { return said(t->confirm(core, {1, gang}, now, fresh())); }
  std::string cancel(uint64_t gang) { return said(t->cancel(core, {1, gang}, fresh())); }
  std::string release(uint64_t gang) { return said(t->release(core, {1, gang}, fresh())); }
  std::string gangs(uint64_t gang = 0, const std::string &node = "", int64_t now = 0) {
    auto query = sized<thole_gang_query>();
    query.now_ns = now;
    query.gang = {gang == 0 ? 0u : 1u, gang};
    query.node = str(node);
    held = sized<thole_plan_list>();
    return said(t->gangs(core, &query, &held, &other->room, fresh()));
  }
  std::string look(const std::string &node = "", int64_t now = 0) {
    auto query = sized<thole_gang_query>();
    query.now_ns = now;
    query.node = str(node);
    usage = sized<thole_usage>();
    return said(t->usage(core, &query, &usage, &other->room, fresh()));
  }
  uint64_t digest(int64_t now = 0) {
    EXPECT_EQ(look("", now), "");
    return usage.digest;
  }
  uint64_t revision() {
    EXPECT_EQ(look(), "");
    return usage.revision;
  }
  // "a b b" for the nodes of the answer's members in their order.
  std::string places() const {
    std::string out;
    for (uint64_t i = 0; i < answer.placements.count; ++i)
      out += (i == 0 ? "" : " ") + text(THOLE_AT(answer.placements, thole_placement, i)->node);
    return out;
  }
  uint32_t holders(const std::string &uuid, int64_t now = 0) { return gpu(uuid, now).holders; }
  thole_gpu_use gpu(const std::string &uuid, int64_t now = 0) {
    EXPECT_EQ(look("", now), "");
    for (uint64_t i = 0; i < usage.gpus.count; ++i)
      if (const auto *g = THOLE_AT(usage.gpus, thole_gpu_use, i); text(g->uuid) == uuid) return *g;
    return sized<thole_gpu_use>();
  }

  thole_core core{};
  const thole_gang_api *t = root()->gang;
  thole_plan answer = sized<thole_plan>();
  thole_explanation why = sized<thole_explanation>();
  thole_plan_list held = sized<thole_plan_list>();
  thole_usage usage = sized<thole_usage>();
  thole_status status = sized<thole_status>();
  std::unique_ptr<lent> memory = std::make_unique<lent>(), other = std::make_unique<lent>();

 private:
  thole_status *fresh() {
    status = sized<thole_status>();
    return &status;
  }
  std::string said(thole_code code) {
    EXPECT_EQ(code, status.code) << status.message;
    EXPECT_EQ(code == THOLE_OK, status.reason[0] == 0);
    return code == THOLE_OK ? "" : status.reason;
  }
};

// A request that owns what it points to.
class wish {
 public:
  explicit wish(uint64_t id, uint32_t members = 1, thole_device_kind kind = THOLE_KIND_WHOLE, uint32_t devices = 1) {
    request.gang = {1, id};
    role(members, kind, devices);
  }
  wish(const wish &) = delete;
  wish &operator=(const wish &) = delete;
  thole_role &role(uint32_t members, thole_device_kind kind = THOLE_KIND_WHOLE, uint32_t devices = 1) {
    auto r = sized<thole_role>();
    r.name = str(names_.emplace_back("role" + std::to_string(roles.size())));
    r.members = members;
    r.device_kind = kind;
    r.devices = kind == THOLE_KIND_NONE ? 0 : devices;
    if (kind == THOLE_KIND_VGPU) r.vgpu_memory_mib = 10 * gib, r.vgpu_share_milli = 100;
    if (kind == THOLE_KIND_MIG) r.mig_profile = THOLE_STR("1g");
    roles.push_back(r);
    request.roles = list(roles);
    return roles.back();
  }
  wish &near(const std::string &level, thole_topology_mode mode = THOLE_TOPOLOGY_REQUIRED) {
    auto one = sized<thole_topology>();
    one.level = str(names_.emplace_back(level));
    one.mode = mode;
    topology_.push_back(one);
    request.topology = list(topology_);
    return *this;
  }
  operator const thole_gang_request &() const { return request; }

  thole_gang_request request = sized<thole_gang_request>();
  std::vector<thole_role> roles;

 private:
  std::deque<std::string> names_;
  std::vector<thole_topology> topology_;
};

// A plan as a host's own database would give it back.
class written_plan {
 public:
  explicit written_plan(uint64_t id) { plan.gang = {1, id}; }
  written_plan(const written_plan &) = delete;
  written_plan &operator=(const written_plan &) = delete;
  written_plan &member(uint32_t role, uint32_t index, const std::string &node, const std::vector<std::string> &uuids,
                       thole_device_kind kind = THOLE_KIND_WHOLE) {
    auto &grants = grants_.emplace_back();
    for (const std::string &u : uuids) {
      auto g = sized<thole_grant>();
      g.uuid = str(names_.emplace_back(u));
      g.kind = kind;
      if (kind == THOLE_KIND_VGPU) g.memory_mib = 10 * gib, g.share_milli = 100;
      grants.push_back(g);
    }
    auto p = sized<thole_placement>();
    p.role = role;
    p.member = index;
    p.node = str(names_.emplace_back(node));
    p.grants = list(grants);
    placements_.push_back(p);
    plan.placements = list(placements_);
    return *this;
  }
  // What the last member's first rank was.
  written_plan &from_rank(uint32_t first) {
    placements_.back().first_rank = first;
    return *this;
  }
  operator const thole_plan &() const { return plan; }
  thole_plan plan = sized<thole_plan>();

 private:
  std::deque<std::string> names_;
  std::deque<std::vector<thole_grant>> grants_;
  std::vector<thole_placement> placements_;
};

}  // namespace host
