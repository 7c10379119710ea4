// Rule A5: a handle that is closed, foreign, made up or of another kind answers THOLE_STALE, in every slot.
#include <random>

#include "slots.h"

using namespace host;

namespace {

class handles_ : public testing::Test {
 protected:
  void SetUp() override {
    w.open();
    w.make_key();
  }
  void expect_stale(const handles &given, const char *what) {
    int tried = 0;
    for (const auto &one : every_slot(w)) {
      if (one.pure) continue;
      thole_status status = sized<thole_status>();
      EXPECT_EQ(one.call(given, &status), THOLE_STALE) << one.name << " with " << what << ": " << status.message;
      EXPECT_STREQ(status.reason, "HandleStale") << one.name;
      ++tried;
    }
    printf("%d slots with %s\n", tried, what);
  }
  world w;
};

TEST_F(handles_, none) {
  expect_stale({}, "{0}");
}

TEST_F(handles_, closed) {
  thole_core core{};
  ASSERT_EQ(root()->core->open(nullptr, &core, nullptr), THOLE_OK);
  thole_writer writer{};
  auto save = sized<thole_save>();
  save.attempt = 1;
  save.parts = 1;
  save.step = 7;
  ASSERT_EQ(root()->checkpoint->begin(core, &w.store, &save, &writer, nullptr), THOLE_OK);
  ASSERT_EQ(root()->core->close(core, nullptr), THOLE_OK);
  // The core took its writer with it.
  expect_stale({core, writer, {}}, "closed ones");
}

TEST_F(handles_, of_another_kind) {
  expect_stale({{~w.core.v}, {w.core.v}, {w.core.v}}, "those of another kind");
}

TEST_F(handles_, made_up) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t v = i < 64 ? uint64_t{1} << i : random();
    if (v == w.core.v) continue;
    const handles given{{v}, {v}, {v}};
    auto usage = sized<thole_usage>();
    const auto query = sized<thole_gang_query>();
    lent m;
    ASSERT_EQ(root()->gang->usage(given.core, &query, &usage, &m.room, nullptr), THOLE_STALE) << v;
    ASSERT_EQ(root()->checkpoint->seal(given.writer, nullptr, nullptr), THOLE_STALE) << v;
    ASSERT_EQ(root()->checkpoint->close(given.reader, nullptr), THOLE_STALE) << v;
  }
}

TEST_F(handles_, one_generation_later_in_the_same_place) {
  // Opening and closing uses a place again; no two handles are equal, and none of the old ones opens it.
  std::vector<thole_core> old;
  for (int i = 0; i < 1000; ++i) {
    thole_core core{};
    ASSERT_EQ(root()->core->open(nullptr, &core, nullptr), THOLE_OK);
    for (const thole_core &before : old) ASSERT_NE(core.v, before.v);
    old.push_back(core);
    ASSERT_EQ(root()->core->close(core, nullptr), THOLE_OK);
    ASSERT_EQ(root()->core->close(core, nullptr), THOLE_STALE);
  }
  auto usage = sized<thole_usage>();
  const auto query = sized<thole_gang_query>();
  lent m;
  for (const thole_core &before : old)
    ASSERT_EQ(root()->gang->usage(before, &query, &usage, &m.room, nullptr), THOLE_STALE);
}

TEST_F(handles_, more_than_there_are_is_a_bound) {
  std::vector<thole_core> many;
  thole_status status = sized<thole_status>();
  for (;;) {
    thole_core core{~uint64_t{0}};
    const thole_code code = root()->core->open(nullptr, &core, &status);
    if (code != THOLE_OK) {
      EXPECT_EQ(core.v, 0u);
      break;
    }
    many.push_back(core);
    ASSERT_LT(many.size(), 100000u);
  }
  EXPECT_STREQ(status.reason, "HandlesOut");
  printf("%zu cores at once\n", many.size() + 1);
  for (const thole_core &core : many) EXPECT_EQ(root()->core->close(core, nullptr), THOLE_OK);
  thole_core again{};
  EXPECT_EQ(root()->core->open(nullptr, &again, nullptr), THOLE_OK);
  EXPECT_EQ(root()->core->close(again, nullptr), THOLE_OK);
}

TEST_F(handles_, of_one_core_do_not_reach_another) {
  thole_core other{};
  ASSERT_EQ(root()->core->open(nullptr, &other, nullptr), THOLE_OK);
  auto usage = sized<thole_usage>();
  const auto query = sized<thole_gang_query>();
  lent m;
  ASSERT_EQ(root()->gang->usage(other, &query, &usage, &m.room, nullptr), THOLE_OK);
  EXPECT_EQ(usage.gpus.count, 0u) << "a core has its own ledger";
  ASSERT_EQ(root()->gang->usage(w.core, &query, &usage, &m.room, nullptr), THOLE_OK);
  EXPECT_EQ(usage.gpus.count, 8u);
  root()->core->close(other, nullptr);
}

}  // namespace
