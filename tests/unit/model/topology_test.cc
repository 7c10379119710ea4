// The tree of domains.
#include "model/topology.h"

#include <gtest/gtest.h>

#include <array>

namespace {

using namespace thole;
using model::topology;

topology tree_of(const std::vector<std::vector<std::string>> &domains) {
  std::vector<const std::vector<std::string> *> all;
  for (const auto &d : domains) all.push_back(&d);
  return topology({"zone", "rack"}, all);
}

TEST(Topology, ADomainIsNamedByItsWholePath) {
  const topology t = tree_of({{"a", "r1"}, {"b", "r1"}, {"a", "r1"}, {"a", "r2"}});
  EXPECT_EQ(t.count(-1), 1u);
  EXPECT_EQ(t.count(0), 2u);
  EXPECT_EQ(t.count(1), 3u);
  EXPECT_EQ(t.count(2), 4u);
  EXPECT_EQ(t.domain(1, 0), t.domain(1, 2));
  EXPECT_NE(t.domain(1, 0), t.domain(1, 1)) << "r1 of b is another rack";
  EXPECT_EQ(t.domain_name(1, t.domain(1, 1)), "b/r1");
  EXPECT_EQ(std::vector(t.members(0, 0).begin(), t.members(0, 0).end()), (std::vector<uint32_t>{0, 2, 3}));
  EXPECT_EQ(t.members(-1, 0).size(), 4u);
  EXPECT_EQ(t.members(2, 3).front(), 3u);
}

TEST(Topology, NodesOfADomainStandTogether) {
  const topology t = tree_of({{"a", "r1"}, {"b", "r1"}, {"a", "r2"}, {"a", "r1"}});
  EXPECT_EQ(t.order(0), 0u);
  EXPECT_EQ(t.order(3), 1u);
  EXPECT_EQ(t.order(2), 2u);
  EXPECT_EQ(t.order(1), 3u);
}

TEST(Topology, LevelsAreFoundByName) {
  const topology t = tree_of({});
  EXPECT_EQ(t.level("zone"), 0);
  EXPECT_EQ(t.level("rack"), 1);
  EXPECT_EQ(t.level("node"), 2);
  EXPECT_FALSE(t.level("cluster"));
  EXPECT_EQ(t.level_name(-1), "cluster");
  EXPECT_EQ(t.level_name(2), "node");
  EXPECT_EQ(t.nodes(), 0u);
}

TEST(Topology, LevelsAreChecked) {
  const auto good = [](std::vector<std::string> names) { return model::check_levels(names).has_value(); };
  EXPECT_TRUE(good({}));
  EXPECT_TRUE(good({"1", "2", "3", "4", "5", "6"}));
  EXPECT_FALSE(good({"1", "2", "3", "4", "5", "6", "7"}));
  EXPECT_FALSE(good({"node"}));
  EXPECT_FALSE(good({"cluster"}));
  EXPECT_FALSE(good({"x", "x"}));
  EXPECT_FALSE(good({""}));
}

}  // namespace
