// What the contract says of each call (thole/gang.h), on clusters that fit into a head.
#include "gang/engine.h"

#include <gtest/gtest.h>

namespace {

using namespace thole;
using model::device_kind;
using model::gang_request;

model::node node_of(const std::string &name, const std::string &rack, int gpus) {
  model::node n{name, {rack}, 8000, 8000, 0, {}};
  for (int g = 0; g < gpus; ++g)
    n.devices.push_back({"SIM-" + name + "-" + std::to_string(g), "M", 81920, 500, THOLE_GPU_SIMULATED, 0, {}});
  return n;
}

gang_request gang_of(uint64_t id, uint32_t members, device_kind kind = device_kind::whole) {
  gang_request q;
  q.gang = {1, id};
  model::role r;
  r.name = "worker";
  r.members = members;
  r.kind = kind;
  r.devices = 1;
  if (kind == device_kind::vgpu) r.vgpu_memory_mib = 10240, r.share_milli = 250;
  q.roles.push_back(r);
  EXPECT_TRUE(model::check(q));
  return q;
}

class Engine : public ::testing::Test {
 protected:
  void SetUp() override {
    e = *gang::engine::open("", log_sink{});
    ASSERT_TRUE(e->set_levels({"rack"}));
    ASSERT_TRUE(e->set_nodes({node_of("b", "r1", 2), node_of("a", "r1", 2), node_of("c", "r2", 2)}));
  }
  template <class R>
  static std::string why(const R &r) {
    return r ? "ok" : std::string(name_of(r.error().why));
  }
  model::gang_plan take(const gang_request &q, gang::reservation terms = {}) {
    const auto p = e->plan(q, terms.now_ns);
    EXPECT_TRUE(p) << why(p);
    EXPECT_EQ(why(e->reserve(q, *p, terms)), "ok");
    return *p;
  }
  uint64_t revision() { return e->usage("", 0)->revision; }
  std::unique_ptr<gang::engine> e;
};

TEST_F(Engine, TiesGoByNameWhateverOrderNodesCameIn) {
  const auto p = e->plan(gang_of(1, 1), 0);
  EXPECT_EQ(p->placements[0].node, "a");
  auto other = *gang::engine::open("", log_sink{});
  ASSERT_TRUE(other->set_levels({"rack"}));
  for (const char *name : {"c", "a", "b"})
    ASSERT_TRUE(other->set_nodes({node_of(name, *name == 'c' ? "r2" : "r1", 2)}));
  EXPECT_EQ(other->usage("", 0)->digest, e->usage("", 0)->digest);
}

TEST_F(Engine, RepeatedCallsChangeNothingTwice) {
  const gang_request q = gang_of(1, 3);
  const auto p = take(q, {0, 100, false});
  const uint64_t after = revision();
  EXPECT_EQ(why(e->reserve(q, p, {0, 100, false})), "ok");
  EXPECT_EQ(revision(), after);
  EXPECT_EQ(why(e->reserve(q, p, {50, 200, false})), "ok") << "at most its expiry is new";
  EXPECT_EQ(e->gangs(q.gang, "", 0)->front().expires_ns, 200);
  EXPECT_EQ(why(e->plan(q, 0)), "GangExists");
  EXPECT_EQ(why(e->confirm(q.gang, 150)), "ok");
  const uint64_t confirmed = revision();
  EXPECT_EQ(why(e->confirm(q.gang, 900)), "ok");
  EXPECT_EQ(why(e->reserve(q, p, {0, 0, false})), "ok");
  EXPECT_EQ(revision(), confirmed);
  EXPECT_EQ(why(e->cancel(q.gang)), "GangConfirmed");
  EXPECT_EQ(why(e->release(q.gang)), "ok");
  EXPECT_EQ(why(e->release(q.gang)), "ok");
  EXPECT_EQ(why(e->cancel(q.gang)), "ok");
  EXPECT_EQ(why(e->confirm(q.gang, 0)), "GangUnknown");
}

TEST_F(Engine, WhatHasExpiredIsFree) {
  take(gang_of(1, 6), {0, 100, false});
  EXPECT_EQ(why(e->plan(gang_of(2, 1), 99)), "GangNoFitInCluster");
  EXPECT_EQ(why(e->confirm({1, 1}, 100)), "GangUnknown");
  EXPECT_EQ(e->gangs({}, "", 100)->size(), 0u);
  EXPECT_EQ(e->usage("", 100)->devices[0].holders, 0u);
  take(gang_of(2, 6), {100, 0, false});
  EXPECT_EQ(why(e->gangs({1, 1}, "", 0)), "GangUnknown") << "it was dropped for the other";
}

TEST_F(Engine, AStaleOrBadPlanIsRefused) {
  const gang_request q = gang_of(1, 2);
  const auto p = e->plan(q, 0);
  take(gang_of(2, 6));
  EXPECT_EQ(why(e->reserve(q, *p, {})), "PlanStale");
  ASSERT_TRUE(e->release({1, 2}));
  auto bad = *p;
  bad.placements.pop_back();
  EXPECT_EQ(why(e->reserve(q, bad, {})), "PlanBad");
  bad = *p;
  bad.grants[0].uuid = "SIM-nowhere";
  EXPECT_EQ(why(e->reserve(q, bad, {})), "PlanBad");
  bad = *p;
  bad.gang = {9, 9};
  EXPECT_EQ(why(e->reserve(q, bad, {})), "PlanBad");
  bad = *p;
  bad.grants[1] = bad.grants[0];
  EXPECT_EQ(why(e->reserve(q, bad, {})), "PlanStale") << "one GPU twice";
  gang_request near = q;
  near.topology = {{"node", true}};
  bad = *p;
  bad.placements[1].node = "c";
  bad.grants[1].uuid = "SIM-c-0";
  EXPECT_EQ(why(e->reserve(near, bad, {})), "PlanBad") << "not in one domain";
  EXPECT_EQ(why(e->reserve(q, *p, {10, 10, false})), "ArgumentBad");
}

TEST_F(Engine, AdoptTakesWhatRunsWhateverTheStateSays) {
  const gang_request q = gang_of(1, 2);
  const auto p = take(q);
  ASSERT_TRUE(e->release(q.gang));
  take(gang_of(2, 6));
  EXPECT_EQ(why(e->reserve(q, p, {0, 0, true})), "ok");
  EXPECT_EQ(e->gangs(q.gang, "", 0)->front().state, model::gang_state::confirmed);
  int over = 0;
  const auto usage = e->usage("", 0);
  for (const auto &d : usage->devices) over += (d.flags & THOLE_GPU_OVERCOMMITTED) != 0 ? 1 : 0;
  EXPECT_EQ(over, 2);
  ASSERT_TRUE(e->release({1, 2}));
  ASSERT_TRUE(e->release(q.gang));
  const auto after = e->usage("", 0);
  for (const auto &d : after->devices) EXPECT_EQ(d.holders, 0u);
}

TEST_F(Engine, AHeldGpuThatIsNoLongerListedStaysUntilReleased) {
  take(gang_of(1, 2));  // both of node a
  ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 1)}));
  auto usage = e->usage("a", 0);
  ASSERT_EQ(usage->devices.size(), 2u);
  EXPECT_EQ(usage->devices[1].flags & THOLE_GPU_UNHEALTHY, THOLE_GPU_UNHEALTHY);
  ASSERT_TRUE(e->release({1, 1}));
  EXPECT_EQ(e->usage("a", 0)->devices.size(), 1u);
}

TEST_F(Engine, ARemovedNodeLeavesWithItsLastGang) {
  take(gang_of(1, 2));
  ASSERT_TRUE(e->remove_node("a"));
  ASSERT_TRUE(e->remove_node("a"));
  ASSERT_TRUE(e->remove_node("unknown"));
  EXPECT_EQ(e->usage("a", 0)->devices.size(), 2u);
  ASSERT_TRUE(e->release({1, 1}));
  EXPECT_EQ(e->usage("a", 0)->devices.size(), 0u);
  EXPECT_EQ(e->usage("", 0)->devices.size(), 4u);
}

TEST_F(Engine, NodesAndLevelsAreCheckedAllOrNone) {
  const uint64_t before = revision();
  auto twice = node_of("d", "r1", 1);
  twice.devices[0].uuid = "SIM-a-0";
  EXPECT_EQ(why(e->set_nodes({node_of("e", "r1", 1), twice})), "NodeBad");
  EXPECT_EQ(why(e->set_nodes({node_of("e", "r1", 1), node_of("e", "r1", 1)})), "NodeBad");
  EXPECT_EQ(why(e->set_levels({"zone"})), "LevelsDiffer");
  EXPECT_EQ(why(e->set_levels({"rack"})), "ok");
  EXPECT_EQ(why(e->set_nodes({node_of("a", "r1", 2)})), "ok");
  EXPECT_EQ(revision(), before) << "nothing was new";
}

TEST_F(Engine, ExplainNamesTheTightestCut) {
  gang_request q = gang_of(1, 5);
  q.topology = {{"rack", true}};
  take(gang_of(2, 1));
  auto why_not = e->explain(q, 0);
  EXPECT_EQ(why_not->why, reason::GangLargerThanPool);
  q = gang_of(1, 4);
  q.topology = {{"rack", true}};
  why_not = e->explain(q, 0);
  EXPECT_EQ(why_not->why, reason::GangNoFitInDomain);
  EXPECT_EQ(why_not->level, "rack");
  EXPECT_EQ(why_not->domain, "r1");
  EXPECT_EQ(why_not->needed, 4u);
  EXPECT_EQ(why_not->available, 3u);
  gang_request large = gang_of(3, 1, device_kind::vgpu);
  large.roles[0].vgpu_memory_mib = 90000;
  why_not = e->explain(large, 0);
  EXPECT_EQ(why_not->why, reason::DeviceTooSmall);
  EXPECT_EQ(why_not->largest_hole_mib, 81920u - 500u);
  large = gang_of(3, 1);
  large.roles[0].gpu_model = "X";
  EXPECT_EQ(e->explain(large, 0)->why, reason::NoSuchModel);
  EXPECT_TRUE(e->explain(gang_of(3, 1), 0)->fits);
}

TEST_F(Engine, ARoleLiesOnlyOnNodesWithItsLabel) {
  model::node labelled = node_of("c", "r2", 2);
  labelled.labels = {"ssd", "amd64"};
  ASSERT_TRUE(e->set_nodes({labelled}));
  gang_request q = gang_of(1, 2);
  q.roles[0].label = "ssd";
  const auto p = e->plan(q, 0);
  ASSERT_TRUE(p) << why(p);
  for (const model::placement &at : p->placements) EXPECT_EQ(at.node, "c");
  gang_request three = gang_of(2, 3);
  three.roles[0].label = "ssd";
  EXPECT_EQ(why(e->plan(three, 0)), "GangLargerThanPool");
  q.roles[0].label = "hdd";
  EXPECT_EQ(why(e->plan(q, 0)), "NoSuchLabel");
  EXPECT_NE(e->explain(q, 0)->message.find("hdd"), std::string::npos);
  ASSERT_EQ(e->explain(q, 0)->blockers.size(), 1u);
  EXPECT_EQ(e->explain(q, 0)->blockers[0].what, "label");
  EXPECT_EQ(e->explain(q, 0)->blockers[0].nodes, 3u);

  // A plan from elsewhere that puts it on another node is refused; what runs there already is adopted.
  auto elsewhere = *e->plan(gang_of(1, 2), 0);
  ASSERT_EQ(elsewhere.placements[0].node, "a");
  q.roles[0].label = "ssd";
  EXPECT_EQ(why(e->reserve(q, elsewhere, {})), "PlanBad");
  EXPECT_EQ(why(e->reserve(q, elsewhere, {0, 0, true})), "ok");

  // The node loses its label: nothing new goes there.
  labelled.labels = {};
  ASSERT_TRUE(e->set_nodes({labelled}));
  gang_request late = gang_of(3, 1);
  late.roles[0].label = "ssd";
  EXPECT_EQ(why(e->plan(late, 0)), "NoSuchLabel");
}

TEST_F(Engine, AVgpuPaysForItsContext) {
  gang_request q = gang_of(1, 1, device_kind::vgpu);
  q.roles[0].share_milli = 0;
  q.roles[0].vgpu_memory_mib = 10240;
  q.roles[0].members = q.roles[0].min_members = 8 * 6;  // 8 x 10 GiB is all of a GPU, without contexts
  EXPECT_EQ(why(e->plan(q, 0)), "GangLargerThanPool");
  q.roles[0].members = q.roles[0].min_members = 7 * 6;
  EXPECT_EQ(why(e->plan(q, 0)), "ok");
}

}  // namespace
