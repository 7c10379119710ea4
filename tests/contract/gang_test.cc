// thole/gang.h, sentence by sentence: what there is (levels, nodes), and what is proposed (plan, explain).
#include <functional>
#include <map>

#include "ledger.h"

using namespace host;

namespace {

std::vector<node_text> three() {
  return {{"b", {"r1"}}, {"a", {"r1"}}, {"c", {"r2"}}};
}

// --- set_levels

TEST(levels, are_named_once_and_the_same_again_is_harmless) {
  ledger l("", {});
  EXPECT_EQ(l.set_levels({"zone", "rack"}), "");
  const uint64_t before = l.revision();
  EXPECT_EQ(l.set_levels({"zone", "rack"}), "");
  EXPECT_EQ(l.revision(), before);
  EXPECT_EQ(l.set_levels({"rack", "zone"}), "LevelsDiffer");
  EXPECT_EQ(l.set_levels({"zone"}), "LevelsDiffer");
  EXPECT_EQ(l.set_levels({}), "LevelsDiffer");
}

TEST(levels, come_before_the_first_node) {
  ledger l("", {});
  EXPECT_EQ(l.set_nodes({{"a", {}}}), "");
  EXPECT_EQ(l.set_levels({"rack"}), "LevelsDiffer");
  EXPECT_EQ(l.set_levels({}), "") << "none is what there is";
}

TEST(levels, have_bounds_and_two_words_that_are_taken) {
  ledger l("", {});
  for (const auto &[names, why] : std::vector<std::pair<std::vector<std::string>, const char *>>{
           {{"node"}, "ArgumentBad"},
           {{"cluster"}, "ArgumentBad"},
           {{""}, "ArgumentBad"},
           {{"x", "x"}, "ArgumentBad"},
           {{"\xff"}, "TextNotUtf8"},
           {{std::string("a\0b", 3)}, "ArgumentBad"},
           {{std::string(THOLE_MAX_NAME + 1, 'x')}, "OverBound"},
           {{"1", "2", "3", "4", "5", "6", "7"}, "OverBound"}})
    EXPECT_EQ(l.set_levels(names), why) << names[0];
  EXPECT_EQ(l.set_levels({std::string(THOLE_MAX_NAME, 'x'), "2", "3", "4", "5", "Ünïcode"}), "") << "six are the most";
  EXPECT_EQ(l.t->set_levels(l.core, nullptr, nullptr), THOLE_INVALID);
}

// --- set_nodes

TEST(nodes, are_keyed_by_name_and_replaced) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  const uint64_t before = l.digest(), revision = l.revision();
  ASSERT_EQ(l.set_nodes(three()), "");
  EXPECT_EQ(l.revision(), revision) << "nothing is new";
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}, 1}}), "");
  EXPECT_EQ(l.look("a"), "");
  EXPECT_EQ(l.usage.gpus.count, 1u);
  EXPECT_GT(l.revision(), revision);
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}, 2}}), "");
  EXPECT_EQ(l.digest(), before) << "of what is known, not of how it came about";
}

TEST(nodes, are_taken_all_or_none) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  const uint64_t before = l.digest();
  const auto refused = [&](const node_text &bad, const char *why, const char *what) {
    EXPECT_EQ(l.set_nodes({{"d", {"r2"}}, bad}), why) << what;
    EXPECT_EQ(l.digest(), before) << what;
  };
  refused({"d", {"r2"}}, "NodeBad", "a name twice");
  refused({"e", {"r2"}, 2, 0, "a"}, "NodeBad", "a uuid of another node");
  refused({"e", {"r2"}, 2, 0, "d"}, "NodeBad", "a uuid twice");
  refused({"e", {}}, "NodeBad", "no domain");
  refused({"e", {"r2", "x"}}, "NodeBad", "a domain too many");
  refused({"e", {""}}, "NodeBad", "a domain without a name");
  refused({"", {"r2"}}, "NodeBad", "no name");
  refused({"e", {"r2"}, 2, 2}, "NodeBad", "an unknown flag");
  refused({"e", {"r2"}, 2, 0, "", 16}, "NodeBad", "an unknown flag of a GPU");
  refused({"e", {"r2"}, 2, 0, "", THOLE_GPU_OVERCOMMITTED}, "NodeBad", "a flag that is only answered");
  refused({"e", {"r2"}, 2, 0, "", 0, 0}, "NodeBad", "a GPU without memory");
  refused({"e", {"r2"}, 33}, "OverBound", "33 GPUs");
  refused({std::string(254, 'n'), {"r2"}}, "OverBound", "a long name");
  refused({"e", {std::string(254, 'n')}}, "OverBound", "a long domain");
  refused({"\xc3", {"r2"}}, "TextNotUtf8", "half a character");
  refused({"e", {"r2"}, 1, 0, "", 0, uint64_t{1} << 41}, "OverBound", "memory without end");
  EXPECT_EQ(l.set_nodes({{std::string(253, 'n'), {std::string(253, 'd')}, 32, 0, "u"}}), "") << "at the bounds";
}

TEST(nodes, may_be_65536_and_not_one_more) {
  ledger l("", {});
  std::vector<node_text> all;
  for (uint32_t i = 0; i < THOLE_MAX_NODES; ++i) all.push_back({"n" + std::to_string(i), {}, 0});
  ASSERT_EQ(l.set_nodes(all), "");
  EXPECT_EQ(l.set_nodes({{"one-more", {}, 0}}), "OverBound");
  all.push_back({"one-more", {}, 0});
  EXPECT_EQ(l.set_nodes(all), "OverBound");
  EXPECT_EQ(l.remove_node("n7"), "");
  EXPECT_EQ(l.set_nodes({{"one-more", {}, 0}}), "");
}

TEST(nodes, that_shrink_keep_what_is_held) {
  ledger l;
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}}}), "");
  const wish held(1, 4, THOLE_KIND_VGPU);
  ASSERT_EQ(l.take(held), "");
  ASSERT_EQ(l.set_nodes({{"a", {"r9"}, 2, 0, "", THOLE_GPU_SIMULATED, 20 * gib}}), "");
  ASSERT_EQ(l.gangs(1), "");
  EXPECT_EQ(THOLE_AT(l.held.plans, thole_plan, 0)->placements.count, 4u);
  const auto gpu = l.gpu("a-0");
  EXPECT_EQ(gpu.free_memory_mib, 0u) << "never negative";
  EXPECT_EQ(gpu.flags & THOLE_GPU_OVERCOMMITTED, THOLE_GPU_OVERCOMMITTED);
  ASSERT_EQ(l.release(1), "");
  EXPECT_EQ(l.gpu("a-0").free_memory_mib, 20 * gib - 500);
  EXPECT_EQ(l.gpu("a-0").flags, THOLE_GPU_SIMULATED);
}

TEST(nodes, keep_a_held_gpu_that_is_no_longer_listed_until_it_is_released) {
  ledger l;
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}}}), "");
  ASSERT_EQ(l.take(wish(1, 2)), "");
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}, 1}}), "");
  EXPECT_EQ(l.gpu("a-1").flags, THOLE_GPU_SIMULATED | THOLE_GPU_UNHEALTHY);
  EXPECT_EQ(l.set_nodes({{"b", {"r1"}, 2, 0, "a"}}), "NodeBad") << "it is still on node a";
  ASSERT_EQ(l.gangs(1), "");
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}, 2}}), "");
  EXPECT_EQ(l.gpu("a-1").flags, THOLE_GPU_SIMULATED) << "it is back";
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}, 1}}), "");
  ASSERT_EQ(l.release(1), "");
  ASSERT_EQ(l.look("a"), "");
  EXPECT_EQ(l.usage.gpus.count, 1u);
  EXPECT_EQ(l.set_nodes({{"a", {"r1"}, 0}, {"b", {"r1"}, 2, 0, "a"}}), "") << "a free one may move";
}

TEST(nodes, cordoned_or_with_sick_gpus_take_nothing_new) {
  ledger l;
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}, 2, THOLE_NODE_CORDONED}, {"b", {"r1"}, 2, 0, "", THOLE_GPU_UNHEALTHY}}), "");
  EXPECT_EQ(l.plan(wish(1)), "GangNoFitInCluster");
  ASSERT_EQ(l.explain(wish(1)), "");
  std::map<std::string, uint64_t> lack;
  for (uint64_t i = 0; i < l.why.blockers.count; ++i) {
    const auto *b = THOLE_AT(l.why.blockers, thole_blocker, i);
    lack[text(b->what)] = b->nodes;
  }
  EXPECT_EQ(lack, (std::map<std::string, uint64_t>{{"cordoned", 1}, {"unhealthy", 1}}));
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}}}), "");
  EXPECT_EQ(l.plan(wish(1)), "");
}

TEST(nodes, that_are_removed_are_forgotten_with_the_last_release) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  ASSERT_EQ(l.take(wish(1, 1)), "");
  ASSERT_EQ(l.take(wish(2, 1)), "");
  ASSERT_EQ(l.remove_node("a"), "");
  EXPECT_EQ(l.remove_node("a"), "");
  EXPECT_EQ(l.remove_node("unknown"), "");
  EXPECT_EQ(l.plan(wish(3, 5)), "GangNoFitInCluster") << "it takes nothing new";
  ASSERT_EQ(l.look("a"), "");
  EXPECT_EQ(l.usage.gpus.count, 2u);
  ASSERT_EQ(l.release(1), "");
  ASSERT_EQ(l.look("a"), "");
  EXPECT_EQ(l.usage.gpus.count, 2u) << "gang 2 is still there";
  ASSERT_EQ(l.release(2), "");
  ASSERT_EQ(l.look("a"), "");
  EXPECT_EQ(l.usage.gpus.count, 0u);
  ledger never;
  ASSERT_EQ(never.set_nodes({{"b", {"r1"}}, {"c", {"r2"}}}), "");
  EXPECT_EQ(l.digest(), never.digest());
  EXPECT_EQ(l.t->remove_node(l.core, {nullptr, 3}, nullptr), THOLE_INVALID);
}

TEST(nodes, that_come_back_before_the_last_release_are_there_again) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  const uint64_t before = l.digest();
  ASSERT_EQ(l.take(wish(1, 1)), "");
  ASSERT_EQ(l.remove_node("a"), "");
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}}}), "");
  ASSERT_EQ(l.release(1), "");
  EXPECT_EQ(l.digest(), before);
}

// Nodes come, change and go one at a time in between of decisions; the ledger is that of a host that says all at once.
TEST(nodes, mirrored_by_deltas_make_the_same_ledger) {
  ledger one, all;
  std::vector<node_text> last;
  for (int i = 0; i < 60; ++i) {
    const std::string name = "n" + std::to_string(i * 37 % 60);
    const node_text n{name, {"r" + std::to_string(i % 7)}, 1 + i % 3};
    ASSERT_EQ(one.set_nodes({{name, {"r0"}, 4}}), "");
    if (i % 5 == 0) {
      ASSERT_EQ(one.take(wish(1, 3)), "");
    }
    ASSERT_EQ(one.set_nodes({n}), "");
    if (i % 5 == 0) {
      ASSERT_EQ(one.release(1), "");
    }
    if (i % 4 == 3) {
      ASSERT_EQ(one.remove_node(name), "");
    } else {
      last.push_back(n);
    }
  }
  ASSERT_EQ(all.set_nodes(last), "");
  EXPECT_EQ(one.digest(), all.digest());
  for (uint64_t id = 1; id < 6; ++id) {
    const wish w(id, 7);
    ASSERT_EQ(one.take(w), "");
    ASSERT_EQ(all.take(w), "");
    EXPECT_EQ(one.places(), all.places()) << "equal states give equal plans";
  }
  EXPECT_EQ(one.digest(), all.digest());
}

// --- plan, explain

TEST(plans, are_best_fit_with_ties_by_name_in_byte_order) {
  ledger l;
  ASSERT_EQ(l.set_nodes({{"b", {"r1"}}, {"Z", {"r1"}}, {"a", {"r1"}, 1}}), "");
  EXPECT_EQ(l.plan(wish(1)), "");
  EXPECT_EQ(l.places(), "a") << "the node with the least room";
  EXPECT_EQ(l.plan(wish(1, 4)), "");
  EXPECT_EQ(l.places(), "Z Z a b") << "members stand in the order of the topology";
  uint32_t next = 0;
  for (uint64_t i = 0; i < 4; ++i) {
    const auto *p = THOLE_AT(l.answer.placements, thole_placement, i);
    EXPECT_EQ(p->member, i);
    EXPECT_EQ(p->first_rank, next++);
    EXPECT_EQ(p->ranks, 1u);
    const auto *g = THOLE_AT(p->grants, thole_grant, 0);
    EXPECT_EQ(g->kind, THOLE_KIND_WHOLE);
    EXPECT_EQ(g->share_milli, 1000u);
    EXPECT_EQ(g->memory_mib, 80 * gib) << "all that it reports";
    EXPECT_EQ(g->flags, THOLE_GPU_SIMULATED);
    EXPECT_EQ(g->context_mib, 500u);
  }
  EXPECT_EQ(l.answer.state, THOLE_GANG_NONE);
  EXPECT_EQ(l.answer.revision, l.revision());
}

TEST(plans, of_several_roles_have_dense_ranks_and_minima_first) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  wish w(1, 4);
  w.roles[0].min_members = 1;
  w.roles[0].ranks_per_member = 2;
  w.role(4).min_members = 3;
  w.request.roles = list(w.roles);
  ASSERT_EQ(l.plan(w), "");
  ASSERT_EQ(l.answer.placements.count, 6u) << "the first role takes what is left after all minima";
  uint32_t rank = 0, of_role[2] = {0, 0};
  for (uint64_t i = 0; i < 6; ++i) {
    const auto *p = THOLE_AT(l.answer.placements, thole_placement, i);
    EXPECT_EQ(p->member, of_role[p->role]++);
    EXPECT_EQ(p->first_rank, rank);
    rank += p->ranks;
  }
  EXPECT_EQ(of_role[0], 3u);
  EXPECT_EQ(l.answer.ranks, 9u);
}

TEST(plans, put_the_vgpus_of_a_member_on_different_gpus) {
  ledger l;
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}}, {"b", {"r2"}, 1}}), "");
  ASSERT_EQ(l.plan(wish(1, 3, THOLE_KIND_VGPU, 2)), "");
  for (uint64_t i = 0; i < 3; ++i) {
    const auto *p = THOLE_AT(l.answer.placements, thole_placement, i);
    ASSERT_EQ(p->grants.count, 2u);
    EXPECT_NE(text(THOLE_AT(p->grants, thole_grant, 0)->uuid), text(THOLE_AT(p->grants, thole_grant, 1)->uuid));
  }
  EXPECT_EQ(l.places(), "a a a");
  EXPECT_EQ(l.plan(wish(1, 1, THOLE_KIND_VGPU, 3)), "NodeTooSmall");
}

TEST(plans, keep_required_domains_and_prefer_narrow_ones) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  EXPECT_EQ(l.plan(wish(1, 4).near("rack")), "");
  EXPECT_EQ(l.places(), "a a b b");
  EXPECT_EQ(l.plan(wish(1, 5).near("rack")), "GangLargerThanPool");
  EXPECT_EQ(l.plan(wish(1, 5).near("rack", THOLE_TOPOLOGY_PREFERRED)), "");
  EXPECT_EQ(l.plan(wish(1, 2).near("rack").near("node", THOLE_TOPOLOGY_PREFERRED)), "");
  EXPECT_EQ(l.places(), "a a");
  EXPECT_EQ(l.plan(wish(1, 3).near("rack").near("node")), "GangLargerThanPool");
}

TEST(plans, name_the_levels_when_there_is_no_such_level) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  EXPECT_EQ(l.plan(wish(1).near("zone")), "TopologyUnknown");
  EXPECT_NE(std::string(l.status.message).find("rack, node"), std::string::npos) << l.status.message;
  EXPECT_EQ(l.explain(wish(1).near("zone")), "TopologyUnknown");
  EXPECT_EQ(l.plan(wish(1).near("node").near("rack")), "RequestBad") << "from outer to inner";
  EXPECT_EQ(l.plan(wish(1).near("rack").near("rack")), "RequestBad");
  EXPECT_EQ(l.plan(wish(1).near("cluster")), "TopologyUnknown");
}

TEST(plans, and_explain_agree) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  ASSERT_EQ(l.take(wish(9, 1)), "");
  int fits = 0, not_fits = 0;
  for (uint32_t members = 1; members < 8; ++members)
    for (const char *level : {"", "rack", "node"}) {
      wish w(1, members);
      if (*level != 0) w.near(level);
      const std::string planned = l.plan(w);
      const std::string message = l.status.message;
      ASSERT_EQ(l.explain(w), "");
      EXPECT_EQ(l.why.fits, planned.empty() ? THOLE_FIT_YES : THOLE_FIT_NO) << members << level;
      EXPECT_EQ(text(l.why.reason), planned);
      EXPECT_EQ(text(l.why.message), planned.empty() ? "" : message);
      ++(planned.empty() ? fits : not_fits);
      if (!planned.empty()) {
        EXPECT_EQ(l.why.needed, members);
        EXPECT_LT(l.why.available, members);
        EXPECT_EQ(text(l.why.level), *level == 0 || members > 6 ? "cluster" : level) << "there are 6 in all";
      } else {
        EXPECT_EQ(l.why.blockers.count + l.why.needed + text(l.why.level).size(), 0u) << "the rest is empty";
      }
    }
  printf("%d requests fit, %d do not\n", fits, not_fits);
}

TEST(plans, refuse_a_gang_that_holds_something) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  ASSERT_EQ(l.take(wish(1), 0, 100), "");
  EXPECT_EQ(l.plan(wish(1), 99), "GangExists");
  EXPECT_EQ(l.plan(wish(1), 100), "") << "it has expired";
}

TEST(plans, name_the_reason_why_not) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  const auto answer = [&](auto change) {
    wish w(1, 1, THOLE_KIND_VGPU);
    change(w.roles[0]);
    return l.plan(w);
  };
  EXPECT_EQ(answer([](thole_role &r) { r.vgpu_memory_mib = 80 * gib; }), "DeviceTooSmall") << "less its context";
  EXPECT_EQ(answer([](thole_role &r) { r.vgpu_memory_mib = 80 * gib - 500; }), "");
  EXPECT_EQ(answer([](thole_role &r) { r.gpu_model = THOLE_STR("X"); }), "NoSuchModel");
  EXPECT_EQ(answer([](thole_role &r) { r.label = THOLE_STR("ssd"); }), "NoSuchLabel");
  EXPECT_EQ(answer([](thole_role &r) { r.cpu_milli = 8001; }), "NodeTooSmall");
  EXPECT_EQ(answer([](thole_role &r) { r.members = 60, r.vgpu_share_milli = 500; }), "GangLargerThanPool");
  EXPECT_EQ(l.plan(wish(1, 1, THOLE_KIND_MIG)), "NoMig");
  ASSERT_EQ(l.take(wish(2, 6)), "");
  EXPECT_EQ(l.plan(wish(1)), "GangNoFitInCluster");
  EXPECT_EQ(l.status.code, THOLE_NO_FIT);
}

TEST(requests, that_contradict_themselves_are_refused) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  int tried = 0;
  const auto refused = [&](const char *why, thole_device_kind kind, auto change) {
    wish w(1, 1, kind);
    change(w);
    w.request.roles = list(w.roles);
    EXPECT_EQ(l.plan(w), why) << l.status.message;
    EXPECT_EQ(l.explain(w), why);
    EXPECT_EQ(l.reserve(w, written_plan(1)), why);
    ++tried;
  };
  const auto role = [&](const char *why, thole_device_kind kind, auto change) {
    refused(why, kind, [&](wish &w) { change(w.roles[0]); });
  };
  constexpr auto whole = THOLE_KIND_WHOLE, vgpu = THOLE_KIND_VGPU, mig = THOLE_KIND_MIG, none = THOLE_KIND_NONE;
  refused("RequestBad", whole, [](wish &w) { w.request.gang = {0, 0}; });
  refused("RequestBad", whole, [](wish &w) { w.roles.clear(); });
  refused("RequestBad", whole, [](wish &w) { w.roles.push_back(w.roles[0]); });
  refused("OverBound", whole, [](wish &w) {
    while (w.roles.size() <= THOLE_MAX_ROLES) w.role(1);
  });
  refused("OverBound", none, [](wish &w) { w.roles[0].members = THOLE_MAX_MEMBERS, w.role(1); });
  role("RequestBad", whole, [](thole_role &r) { r.name = {}; });
  role("RequestBad", whole, [](thole_role &r) { r.members = 0; });
  role("OverBound", whole, [](thole_role &r) { r.members = THOLE_MAX_MEMBERS + 1; });
  role("RequestBad", whole, [](thole_role &r) { r.min_members = 2; });
  role("OverBound", whole, [](thole_role &r) { r.ranks_per_member = THOLE_MAX_RANKS_PER_MEMBER + 1; });
  role("RequestBad", whole, [](thole_role &r) { r.device_kind = 4; });
  role("RequestBad", whole, [](thole_role &r) { r.device_kind = -1; });
  role("RequestBad", whole, [](thole_role &r) { r.devices = 0; });
  role("OverBound", whole, [](thole_role &r) { r.devices = THOLE_MAX_GPUS + 1; });
  role("RequestBad", none, [](thole_role &r) { r.devices = 1; });
  role("RequestBad", none, [](thole_role &r) { r.gpu_model = THOLE_STR("M"); });
  role("RequestBad", whole, [](thole_role &r) { r.vgpu_memory_mib = 1; });
  role("RequestBad", whole, [](thole_role &r) { r.vgpu_share_milli = 1; });
  role("RequestBad", whole, [](thole_role &r) { r.mig_profile = THOLE_STR("1g"); });
  role("RequestBad", mig, [](thole_role &r) { r.mig_profile = {}; });
  role("RequestBad", vgpu, [](thole_role &r) { r.vgpu_memory_mib = 0; });
  role("RequestBad", vgpu, [](thole_role &r) { r.vgpu_share_milli = 1001; });
  role("OverBound", vgpu, [](thole_role &r) { r.vgpu_memory_mib = ~uint64_t{0}; });
  role("OverBound", whole, [](thole_role &r) { r.cpu_milli = ~uint64_t{0}; });
  role("OverBound", whole, [](thole_role &r) { r.memory_mib = uint64_t{1} << 63; });
  role("TextNotUtf8", whole, [](thole_role &r) { r.name = THOLE_STR("\xff"); });
  refused("RequestBad", whole, [](wish &w) { w.near("rack", 3); });
  printf("%d of %d bad requests refused\n", tried, tried);
}

// --- buffers

TEST(buffers, of_every_size_hold_all_or_say_how_much_is_needed) {
  ledger l;
  ASSERT_EQ(l.set_nodes(three()), "");
  ASSERT_EQ(l.take(wish(9, 2)), "");
  const wish good(1, 3), bad(2, 5);
  const auto query = sized<thole_gang_query>();
  const std::vector<std::pair<const char *, std::function<thole_code(thole_buffer *)>>> calls = {
      {"plan", [&](thole_buffer *b) { return l.t->plan(l.core, &good.request, 0, &l.answer, b, nullptr); }},
      {"explain", [&](thole_buffer *b) { return l.t->explain(l.core, &bad.request, 0, &l.why, b, nullptr); }},
      {"gangs", [&](thole_buffer *b) { return l.t->gangs(l.core, &query, &l.held, b, nullptr); }},
      {"usage", [&](thole_buffer *b) { return l.t->usage(l.core, &query, &l.usage, b, nullptr); }}};
  for (const auto &[name, call] : calls) {
    thole_buffer ask{nullptr, 0, 0};
    ASSERT_EQ(call(&ask), THOLE_TOO_SMALL) << name;
    const uint64_t needed = ask.used;
    ASSERT_GT(needed, 0u);
    for (uint64_t size = 0; size <= needed + 8; ++size) {
      std::vector<uint64_t> words(needed / 8 + 3, 0xabababababababab);
      thole_buffer room{words.data(), size, 0};
      ASSERT_EQ(call(&room), size < needed ? THOLE_TOO_SMALL : THOLE_OK) << name << " " << size;
      ASSERT_EQ(room.used, needed) << name;
      const auto *bytes = reinterpret_cast<const unsigned char *>(words.data());
      for (uint64_t i = size; i < words.size() * 8; ++i) ASSERT_EQ(bytes[i], 0xab) << name << " wrote beyond " << size;
    }
    uint64_t word[4] = {};
    thole_buffer odd{reinterpret_cast<char *>(word) + 1, 16, 0};
    EXPECT_EQ(call(&odd), THOLE_INVALID) << name;
    EXPECT_EQ(call(nullptr), THOLE_INVALID) << name;
    printf("%s: %llu sizes\n", name, static_cast<unsigned long long>(needed + 9));
  }
}

}  // namespace
