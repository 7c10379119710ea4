// Rule A12: calls that change something carry the caller's id and bear repetition, reordering and reserve-undo-reserve.
// Rule A8: what is decided by time is decided by the caller's `now`.
#include "slots.h"

using namespace host;

namespace {

class two_phase : public testing::Test {
 protected:
  void SetUp() override { w.open(); }

  thole_code reserve(int64_t now, int64_t expires) {
    auto plan = sized<thole_plan>();
    lent m;
    const thole_code planned = t->plan(w.core, &w.request, now, &plan, &m.room, nullptr);
    if (planned != THOLE_OK) return planned;
    return hold(plan, now, expires);
  }
  thole_code hold(const thole_plan &plan, int64_t now, int64_t expires) {
    auto reservation = sized<thole_reservation>();
    reservation.now_ns = now;
    reservation.expires_ns = expires;
    return t->reserve(w.core, &w.request, &plan, &reservation, nullptr);
  }
  uint64_t digest(int64_t now = 0) {
    auto usage = sized<thole_usage>();
    auto query = sized<thole_gang_query>();
    query.now_ns = now;
    lent m;
    EXPECT_EQ(t->usage(w.core, &query, &usage, &m.room, nullptr), THOLE_OK);
    return usage.digest;
  }
  uint64_t held(int64_t now) {
    auto plans = sized<thole_plan_list>();
    auto query = sized<thole_gang_query>();
    query.now_ns = now;
    lent m;
    EXPECT_EQ(t->gangs(w.core, &query, &plans, &m.room, nullptr), THOLE_OK);
    return plans.plans.count;
  }
  world w;
  const thole_gang_api *t = root()->gang;
};

TEST_F(two_phase, plan_and_explain_change_nothing) {
  const uint64_t before = digest();
  auto plan = sized<thole_plan>();
  auto why = sized<thole_explanation>();
  lent m;
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(t->plan(w.core, &w.request, 0, &plan, &m.room, nullptr), THOLE_OK);
    ASSERT_EQ(t->explain(w.core, &w.request, 0, &why, &m.room, nullptr), THOLE_OK);
  }
  EXPECT_EQ(digest(), before);
}

TEST_F(two_phase, repeating_each_step_changes_nothing) {
  auto plan = sized<thole_plan>();
  lent m;
  ASSERT_EQ(t->plan(w.core, &w.request, 0, &plan, &m.room, nullptr), THOLE_OK);
  ASSERT_EQ(hold(plan, 0, 0), THOLE_OK);
  const uint64_t reserved = digest();
  ASSERT_EQ(hold(plan, 0, 0), THOLE_OK);
  EXPECT_EQ(digest(), reserved);
  ASSERT_EQ(t->confirm(w.core, w.request.gang, 0, nullptr), THOLE_OK);
  const uint64_t confirmed = digest();
  EXPECT_EQ(t->confirm(w.core, w.request.gang, 0, nullptr), THOLE_OK);
  EXPECT_EQ(hold(plan, 0, 0), THOLE_OK) << "also after confirm";
  EXPECT_EQ(digest(), confirmed);
  EXPECT_EQ(t->cancel(w.core, w.request.gang, nullptr), THOLE_REFUSED);
  EXPECT_EQ(digest(), confirmed);
  EXPECT_EQ(t->release(w.core, w.request.gang, nullptr), THOLE_OK);
  EXPECT_EQ(t->release(w.core, w.request.gang, nullptr), THOLE_OK);
  EXPECT_EQ(t->cancel(w.core, w.request.gang, nullptr), THOLE_OK);
}

TEST_F(two_phase, undo_leaves_what_was_before) {
  const uint64_t before = digest();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(reserve(0, 0), THOLE_OK);
    EXPECT_NE(digest(), before);
    ASSERT_EQ(t->cancel(w.core, w.request.gang, nullptr), THOLE_OK);
    EXPECT_EQ(digest(), before) << "reserve, undo, reserve: round " << i;
  }
}

TEST_F(two_phase, steps_that_come_out_of_order_are_told) {
  EXPECT_EQ(t->confirm(w.core, w.request.gang, 0, nullptr), THOLE_NOT_FOUND);
  EXPECT_EQ(t->cancel(w.core, w.request.gang, nullptr), THOLE_OK);
  EXPECT_EQ(t->release(w.core, w.request.gang, nullptr), THOLE_OK);
  ASSERT_EQ(reserve(0, 0), THOLE_OK);
  ASSERT_EQ(t->cancel(w.core, w.request.gang, nullptr), THOLE_OK);
  EXPECT_EQ(t->confirm(w.core, w.request.gang, 0, nullptr), THOLE_NOT_FOUND);
}

TEST_F(two_phase, a_plan_that_was_overtaken_is_refused_whole) {
  w.roles[0].members = 8;
  w.roles[0].device_kind = THOLE_KIND_WHOLE;
  w.roles[0].vgpu_memory_mib = w.roles[0].vgpu_share_milli = 0;
  auto plan = sized<thole_plan>();
  lent m;
  ASSERT_EQ(t->plan(w.core, &w.request, 0, &plan, &m.room, nullptr), THOLE_OK);
  world other;
  other.request.gang = {9, 9};
  auto others = sized<thole_plan>();
  lent n;
  ASSERT_EQ(t->plan(w.core, &other.request, 0, &others, &n.room, nullptr), THOLE_OK);
  const auto reservation = sized<thole_reservation>();
  ASSERT_EQ(t->reserve(w.core, &other.request, &others, &reservation, nullptr), THOLE_OK);
  const uint64_t before = digest();
  EXPECT_EQ(hold(plan, 0, 0), THOLE_CONFLICT);
  EXPECT_EQ(digest(), before) << "nothing of it is held";
}

TEST_F(two_phase, only_the_callers_now_ends_a_reservation) {
  ASSERT_EQ(reserve(100, 200), THOLE_OK);
  EXPECT_EQ(held(199), 1u);
  EXPECT_EQ(held(200), 0u);
  EXPECT_EQ(held(150), 1u) << "asking with a later now has ended nothing";
  EXPECT_EQ(t->confirm(w.core, w.request.gang, 150, nullptr), THOLE_OK);
  EXPECT_EQ(held(1000000), 1u) << "an allocation does not expire";
}

}  // namespace
