// The form of requests and plans; what the ledger knows is tested with the engine.
#include "model/gang.h"

#include <gtest/gtest.h>

namespace {

using namespace thole;
using namespace thole::model;

gang_request vgpu_gang(uint32_t members, uint32_t devices) {
  gang_request q;
  q.gang = {1, 2};
  role r;
  r.name = "worker";
  r.members = members;
  r.kind = device_kind::vgpu;
  r.devices = devices;
  r.vgpu_memory_mib = 100;
  q.roles.push_back(r);
  return q;
}

gang_plan plan_of(const std::vector<uint32_t> &members, const std::vector<const char *> &uuids) {
  gang_plan p;
  p.gang = {1, 2};
  const auto each = static_cast<uint32_t>(uuids.size() / members.size());
  for (const uint32_t m : members) {
    p.placements.push_back({0, m, 0, 1, "n", static_cast<uint32_t>(p.grants.size()), each});
    for (uint32_t i = 0; i < each; ++i) {
      named_grant g;
      g.uuid = uuids[p.grants.size()];
      g.kind = device_kind::vgpu;
      g.memory_mib = 100;
      p.grants.push_back(g);
    }
  }
  return p;
}

TEST(Gang, DefaultsAreFilledIn) {
  gang_request q = vgpu_gang(4, 1);
  ASSERT_TRUE(check(q));
  EXPECT_EQ(q.roles[0].min_members, 4u);
  EXPECT_EQ(q.roles[0].ranks_per_member, 1u);
}

TEST(Gang, BoundsAreThoseOfTheWholeGang) {
  gang_request q = vgpu_gang(THOLE_MAX_MEMBERS, 256);
  EXPECT_TRUE(check(q)) << "2^24 devices";
  q = vgpu_gang(THOLE_MAX_MEMBERS, 257);
  const auto r = check(q);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().why, reason::OverBound);
  q = vgpu_gang(THOLE_MAX_MEMBERS, 1);
  q.roles.push_back(q.roles[0]);
  q.roles[1].name = "other";
  EXPECT_FALSE(check(q)) << "members of all roles together";
}

TEST(Gang, VgpusOfAMemberLieOnDifferentGpus) {
  gang_request q = vgpu_gang(2, 2);
  ASSERT_TRUE(check(q));
  EXPECT_TRUE(check(plan_of({0, 1}, {"a", "b", "a", "b"}), q, false));
  EXPECT_FALSE(check(plan_of({0, 1}, {"a", "a", "b", "b"}), q, false));
  EXPECT_TRUE(check(plan_of({0, 1}, {"a", "a", "b", "b"}), q, true)) << "what runs, runs";
}

TEST(Gang, OnlyWhatIsAdoptedHasHoles) {
  gang_request q = vgpu_gang(4, 1);
  q.roles[0].min_members = 1;
  ASSERT_TRUE(check(q));
  EXPECT_FALSE(check(plan_of({1, 3}, {"a", "b"}), q, false));
  EXPECT_TRUE(check(plan_of({1, 3}, {"a", "b"}), q, true));
  EXPECT_FALSE(check(plan_of({3, 1}, {"a", "b"}), q, true));
  EXPECT_FALSE(check(plan_of({1, 1}, {"a", "b"}), q, true));
  EXPECT_FALSE(check(plan_of({4}, {"a"}), q, true));
}

}  // namespace
