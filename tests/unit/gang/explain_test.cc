// Why a gang cannot be placed: which constraint, and its numbers, where several could be named.
#include "gang/explain.h"

#include <gtest/gtest.h>

#include "gang/engine.h"

namespace {

using namespace thole;
using model::device_kind;

model::node node_of(const std::string &name, const std::string &rack, int gpus, uint32_t flags = 0) {
  model::node n{name, {rack}, 8000, 8000, flags, {}};
  for (int g = 0; g < gpus; ++g)
    n.devices.push_back({"SIM-" + name + "-" + std::to_string(g), "M", 80000, 0, THOLE_GPU_SIMULATED, 0, {}});
  return n;
}

model::role gpus_of(std::string_view name, uint32_t members, uint32_t devices = 1) {
  model::role r;
  r.name = name;
  r.members = members;
  r.kind = device_kind::whole;
  r.devices = devices;
  return r;
}

class Explain : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(e->set_levels({"rack"}));
    ASSERT_TRUE(e->set_nodes({node_of("a", "r1", 4), node_of("b", "r2", 4)}));
  }
  gang::explanation ask(std::vector<model::role> roles, std::string_view near = {}) {
    model::gang_request q;
    q.gang = {1, ++id};
    q.roles = std::move(roles);
    if (!near.empty()) q.topology = {{near, true}};
    EXPECT_TRUE(model::check(q));
    auto why = e->explain(q, 0);
    EXPECT_TRUE(why);
    return why ? *why : gang::explanation{};
  }
  void hold(std::vector<model::role> roles) {
    model::gang_request q;
    q.gang = {1, ++id};
    q.roles = std::move(roles);
    EXPECT_TRUE(model::check(q));
    const auto plan = e->plan(q, 0);
    ASSERT_TRUE(plan);
    ASSERT_TRUE(e->reserve(q, *plan, {}));
  }
  std::unique_ptr<gang::engine> e = *gang::engine::open("", log_sink{});
  uint64_t id = 0;
};

TEST_F(Explain, AddsUpTheRolesAndNamesTheFirstThatIsShort) {
  hold({gpus_of("w", 2)});
  const auto why = ask({gpus_of("a", 3), gpus_of("b", 2), gpus_of("c", 3)});
  EXPECT_EQ(why.why, reason::GangNoFitInCluster);
  EXPECT_EQ(why.needed, 8u);
  EXPECT_EQ(why.available, 6u);
  EXPECT_EQ(why.role, 2u);
  const auto early = ask({gpus_of("a", 7), gpus_of("b", 1)});
  EXPECT_EQ(early.role, 0u) << early.message;
}

TEST_F(Explain, ACordonOrASickDeviceDoesNotMakeThePoolTooSmall) {
  EXPECT_EQ(ask({gpus_of("w", 9)}).why, reason::GangLargerThanPool);
  ASSERT_TRUE(e->set_nodes({node_of("b", "r2", 4, THOLE_NODE_CORDONED)}));
  EXPECT_EQ(ask({gpus_of("w", 5)}).why, reason::GangNoFitInCluster);
  EXPECT_EQ(ask({gpus_of("w", 5)}).available, 4u);
  auto sick = node_of("b", "r2", 4);
  for (auto &d : sick.devices) d.flags |= THOLE_GPU_UNHEALTHY;
  ASSERT_TRUE(e->set_nodes({sick}));
  EXPECT_EQ(ask({gpus_of("w", 8)}).why, reason::GangNoFitInCluster);
}

TEST_F(Explain, AMemberThatOnlyASickNodeCouldTakeIsNotTooLarge) {
  auto large = node_of("c", "r3", 8);
  for (auto &d : large.devices) d.flags |= THOLE_GPU_UNHEALTHY;
  ASSERT_TRUE(e->set_nodes({large}));
  EXPECT_EQ(ask({gpus_of("w", 1, 8)}).why, reason::GangNoFitInCluster);
  EXPECT_EQ(ask({gpus_of("w", 1, 9)}).why, reason::NodeTooSmall);
}

TEST_F(Explain, OfDomainsTheBestIsNamedAndOfEqualOnesTheFirst) {
  auto why = ask({gpus_of("w", 5)}, "rack");
  EXPECT_EQ(why.domain, "r1");
  ASSERT_TRUE(e->set_nodes({node_of("b", "r2", 5)}));
  hold({gpus_of("w", 1)});     // on a
  hold({gpus_of("w", 1, 4)});  // on b
  why = ask({gpus_of("w", 4)}, "node");
  EXPECT_EQ(why.why, reason::GangNoFitInDomain);
  EXPECT_EQ(why.domain, "a");
  EXPECT_EQ(why.available, 3u);
}

TEST_F(Explain, BlockersAreCounted) {
  hold({gpus_of("w", 8)});
  ASSERT_TRUE(e->set_nodes({node_of("c", "r3", 0), node_of("d", "r3", 4, THOLE_NODE_CORDONED)}));
  const auto why = ask({gpus_of("w", 1)});
  ASSERT_EQ(why.blockers.size(), 3u);
  EXPECT_EQ(why.blockers[0].what, "free gpus");
  EXPECT_EQ(why.blockers[0].nodes, 2u);
}

}  // namespace
