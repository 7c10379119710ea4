// Plans that come from outside, and what is held while nodes change: the cases that are easy to get nearly right.
#include <gtest/gtest.h>

#include "gang/engine.h"

namespace {

using namespace thole;
using model::device_kind;

std::vector<model::mig_profile> slices() {
  return {{"1g", 10000, 7, 142, {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}}}};
}

model::node node_of(const std::string &name, const std::string &rack, int gpus, bool mig = false) {
  model::node n{name, {rack}, 4000, 8000, 0, {}};
  for (int g = 0; g < gpus; ++g) {
    n.devices.push_back({"SIM-" + name + "-" + std::to_string(g), "M", 80000, 0, mig ? THOLE_GPU_MIG : 0u, 0, {}});
    if (mig) n.devices.back().mig = slices();
  }
  return n;
}

model::gang_request gang_of(uint64_t id, uint32_t members, device_kind kind, uint64_t cpu = 0) {
  model::gang_request q;
  q.gang = {1, id};
  model::role r;
  r.name = "w";
  r.members = members;
  r.kind = kind;
  r.devices = kind == device_kind::none ? 0 : 1;
  r.ranks_per_member = 2;
  r.cpu_milli = cpu;
  if (kind == device_kind::mig) r.mig_profile = "1g";
  if (kind == device_kind::vgpu) r.vgpu_memory_mib = 10000;
  q.roles.push_back(r);
  EXPECT_TRUE(model::check(q));
  return q;
}

class Reserve : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(e->set_levels({"rack"})); }
  template <class R>
  static std::string why(const R &r) {
    return r ? "ok" : std::string(name_of(r.error().why));
  }
  model::gang_plan plan(const model::gang_request &q) {
    const auto p = e->plan(q, 0);
    EXPECT_TRUE(p) << why(p);
    return p ? *p : model::gang_plan{};
  }
  std::unique_ptr<gang::engine> e = *gang::engine::open("", log_sink{});
};

TEST_F(Reserve, TheLastCoreIsGivenAway) {
  ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 0)}));
  const auto q = gang_of(1, 4, device_kind::none, 1000);
  EXPECT_EQ(why(e->reserve(q, plan(q), {})), "ok");
  EXPECT_EQ(why(e->plan(gang_of(2, 1, device_kind::none, 1), 0)), "GangNoFitInCluster");
}

TEST_F(Reserve, AnotherMigPlaceIsAnotherPlan) {
  ASSERT_TRUE(e->set_nodes({node_of("m", "r1", 1, true)}));
  const auto q = gang_of(1, 1, device_kind::mig);
  auto p = plan(q);
  ASSERT_EQ(why(e->reserve(q, p, {})), "ok");
  EXPECT_EQ(why(e->reserve(q, p, {})), "ok");
  p.grants[0].mig.start = p.grants[0].mig.start == 0 ? 1 : 0;
  EXPECT_EQ(why(e->reserve(q, p, {})), "GangExists");
}

TEST_F(Reserve, ARolesOwnDomainIsChecked) {
  ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 1), node_of("b", "r2", 1), node_of("c", "r2", 1)}));
  auto q = gang_of(1, 2, device_kind::whole);
  auto p = plan(q);  // on a and b
  ASSERT_EQ(p.placements[1].node, "b");
  q.roles[0].topology = {{"rack", true}};
  EXPECT_EQ(why(e->reserve(q, p, {})), "PlanBad");
  EXPECT_EQ(why(e->reserve(q, plan(q), {})), "ok");
}

TEST_F(Reserve, RanksOfTheDeadStayTheirs) {
  ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 4)}));
  const auto q = gang_of(1, 4, device_kind::whole);
  auto p = plan(q);
  p.placements.erase(p.placements.begin() + 1);
  ASSERT_EQ(why(e->reserve(q, p, {0, 0, true})), "ok");
  const auto held = e->gangs(q.gang, "", 0);
  ASSERT_EQ(held->front().placements.size(), 3u);
  EXPECT_EQ(held->front().placements[0].first_rank, 0u);
  EXPECT_EQ(held->front().placements[1].first_rank, 4u) << "member 1 had 2 and 3";
}

TEST_F(Reserve, RanksFollowTheTopologyAndNotTheNames) {
  ASSERT_TRUE(
      e->set_nodes({node_of("a", "r1", 1), node_of("b", "r2", 1), node_of("c", "r1", 1), node_of("d", "r2", 1)}));
  const auto p = plan(gang_of(1, 4, device_kind::whole));
  std::string nodes;
  for (const auto &at : p.placements) nodes += at.node;
  EXPECT_EQ(nodes, "acbd");
}

TEST_F(Reserve, AHeldDeviceDoesNotMove) {
  ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 2), node_of("b", "r1", 0)}));
  auto from = node_of("a", "r1", 1), to = node_of("b", "r1", 0);
  to.devices.push_back(node_of("a", "r1", 2).devices[1]);
  const auto q = gang_of(1, 2, device_kind::whole);
  ASSERT_EQ(why(e->reserve(q, plan(q), {})), "ok");
  EXPECT_EQ(why(e->set_nodes({from, to})), "NodeBad");
  ASSERT_TRUE(e->release(q.gang));
  EXPECT_EQ(why(e->set_nodes({to})), "NodeBad") << "it is still on the other";
  EXPECT_EQ(why(e->set_nodes({from, to})), "ok");
  // Nodes that come before others by name change where those stand, not where their devices are.
  ASSERT_TRUE(e->set_nodes({node_of("0", "r1", 0)}));
  ASSERT_TRUE(e->usage("", 0));
  EXPECT_EQ(why(e->set_nodes({node_of("b", "r1", 0), node_of("a", "r1", 2)})), "ok");
}

TEST_F(Reserve, WhatIsHeldIsChargedByWhatTheNodeSaysNow) {
  ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 1)}));
  const auto q = gang_of(1, 1, device_kind::vgpu);
  ASSERT_EQ(why(e->reserve(q, plan(q), {})), "ok");
  EXPECT_EQ(e->usage("", 0)->devices[0].free_memory_mib, 70000u);
  auto a = node_of("a", "r1", 1);
  a.devices[0].context_mib = 500;
  ASSERT_TRUE(e->set_nodes({a}));
  EXPECT_EQ(e->usage("", 0)->devices[0].free_memory_mib, 69000u) << "two contexts";
}

TEST_F(Reserve, ANodeThatLeavesTakesNobody) {
  ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 2)}));
  const auto q = gang_of(1, 1, device_kind::whole);
  ASSERT_EQ(why(e->reserve(q, plan(q), {})), "ok");
  ASSERT_TRUE(e->remove_node("a"));
  EXPECT_EQ(why(e->plan(gang_of(2, 1, device_kind::whole), 0)), "GangNoFitInCluster");
}

TEST_F(Reserve, AnExpiryThatWasMovedIsMoved) {
  ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 1)}));
  const auto q = gang_of(1, 1, device_kind::whole);
  const auto p = plan(q);
  ASSERT_EQ(why(e->reserve(q, p, {0, 10, false})), "ok");
  ASSERT_EQ(why(e->reserve(q, p, {0, 100, false})), "ok");
  EXPECT_EQ(why(e->plan(gang_of(2, 1, device_kind::whole), 50)), "GangNoFitInCluster");
  EXPECT_EQ(why(e->plan(gang_of(2, 1, device_kind::whole), 100)), "ok");
}

}  // namespace
