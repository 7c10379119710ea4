// What thole/checkpoint.h says beyond the format: which checkpoint is the newest, what an absent store answers, what a
// call that cannot answer leaves undone, and the bounds.
#include "host.h"

using namespace host;

namespace {

class checkpoint : public testing::Test {
 protected:
  world w;
  one_tensor tensor;
  thole_status status = sized<thole_status>();
  const thole_checkpoint_api &api = *root()->checkpoint;

  void SetUp() override {
    w.open();
    w.make_key();
  }
  static thole_save rank(uint64_t attempt, uint64_t step, uint32_t part = 0, uint32_t parts = 1) {
    thole_save s = sized<thole_save>();
    s.attempt = attempt;
    s.step = step;
    s.part = part;
    s.parts = parts;
    return s;
  }
  // begin, put, seal, end; the first that fails is the answer.
  std::string save(uint64_t attempt, uint64_t step) {
    const thole_save s = rank(attempt, step);
    thole_writer writer{};
    if (api.begin(w.core, &w.store, &s, &writer, &status) != THOLE_OK) return status.reason;
    std::string answer = "committed";
    if (api.put(writer, &tensor.item, &status) != THOLE_OK || api.seal(writer, nullptr, &status) != THOLE_OK)
      answer = status.reason;
    api.end(writer, nullptr);
    return answer;
  }
  // The step of what opens, or the reason why nothing does.
  std::string newest(const thole_which *which = nullptr) {
    thole_reader reader{};
    if (api.open(w.core, &w.store, which, &reader, &status) != THOLE_OK) return status.reason;
    lent memory;
    thole_checkpoint_contents contents = sized<thole_checkpoint_contents>();
    EXPECT_EQ(api.describe(reader, &contents, &memory.room, &status), THOLE_OK) << status.message;
    EXPECT_EQ(api.close(reader, nullptr), THOLE_OK);
    return std::to_string(contents.info->step);
  }
  uint64_t listed() {
    lent memory;
    thole_checkpoint_list list = sized<thole_checkpoint_list>();
    EXPECT_EQ(api.list(w.core, &w.store, &list, &memory.room, &status), THOLE_OK) << status.message;
    return list.checkpoints.count;
  }
};

}  // namespace

TEST_F(checkpoint, steps_of_an_attempt_only_grow) {
  const std::string anchor = w.place.path + "/anchor";
  for (const bool anchored : {false, true}) {
    w.store.run.lo += 1;
    w.store.anchor = anchored ? str(anchor) : thole_str{};
    EXPECT_EQ(save(1, 3), "committed");
    EXPECT_EQ(save(1, 9), "committed");
    EXPECT_EQ(save(1, 4), "StepPast");
    EXPECT_EQ(save(1, 9), "PartExists");
    EXPECT_EQ(newest(), "9");
    // Going back is a new attempt, whose steps are newer than any of the one before.
    ASSERT_EQ(api.fence(w.core, &w.store, 2, nullptr, &status), THOLE_OK) << status.message;
    EXPECT_EQ(save(2, 4), "committed");
    EXPECT_EQ(newest(), "4");
    uint64_t removed = 0;
    EXPECT_EQ(api.retire(w.core, &w.store, 1, &removed, &status), THOLE_OK) << status.message;
    EXPECT_EQ(removed, 2u);
    EXPECT_EQ(newest(), "4");
  }
}

TEST_F(checkpoint, a_seal_that_comes_too_late_commits_nothing) {
  const thole_save early = rank(1, 5);
  thole_writer writer{};
  ASSERT_EQ(api.begin(w.core, &w.store, &early, &writer, &status), THOLE_OK) << status.message;
  ASSERT_EQ(api.put(writer, &tensor.item, &status), THOLE_OK) << status.message;
  ASSERT_EQ(save(1, 6), "committed");
  EXPECT_EQ(api.seal(writer, nullptr, &status), THOLE_REFUSED);
  EXPECT_STREQ(status.reason, "StepPast");
  EXPECT_EQ(api.end(writer, nullptr), THOLE_OK);
  EXPECT_EQ(newest(), "6");
}

TEST_F(checkpoint, a_part_may_be_empty) {
  for (uint32_t part = 0; part < 2; ++part) {
    const thole_save s = rank(1, 7, part, 2);
    thole_writer writer{};
    ASSERT_EQ(api.begin(w.core, &w.store, &s, &writer, &status), THOLE_OK) << status.message;
    if (part == 1) {
      ASSERT_EQ(api.put(writer, &tensor.item, &status), THOLE_OK) << status.message;
    }
    thole_sealed sealed = sized<thole_sealed>();
    ASSERT_EQ(api.seal(writer, &sealed, &status), THOLE_OK) << status.message;
    EXPECT_EQ(sealed.committed, part);
    EXPECT_EQ(api.end(writer, nullptr), THOLE_OK);
  }
  EXPECT_EQ(newest(), "7");
  EXPECT_EQ(api.verify(w.core, &w.store, nullptr, nullptr, &status), THOLE_OK) << status.message;
}

TEST_F(checkpoint, a_store_that_is_not_there_is_no_beginning) {
  EXPECT_EQ(newest(), "StoreGone");
  const std::string anchor = w.place.path + "/anchor";
  w.store.anchor = str(anchor);
  ASSERT_EQ(save(1, 1), "committed");
  std::filesystem::rename(w.store_folder, w.store_folder + ".elsewhere");
  EXPECT_EQ(newest(), "StoreGone");
  EXPECT_EQ(api.fence(w.core, &w.store, 2, nullptr, &status), THOLE_UNAVAILABLE);
  EXPECT_STREQ(status.reason, "StoreGone");
  EXPECT_EQ(save(1, 2), "StoreGone");
  EXPECT_FALSE(std::filesystem::exists(w.store_folder));
  std::filesystem::rename(w.store_folder + ".elsewhere", w.store_folder);
  EXPECT_EQ(newest(), "1");
}

TEST_F(checkpoint, which_says_by_what) {
  ASSERT_EQ(save(1, 0), "committed");
  ASSERT_EQ(save(1, 5), "committed");
  thole_which which = sized<thole_which>();
  EXPECT_EQ(newest(&which), "5");
  which.by = THOLE_BY_STEP;
  EXPECT_EQ(newest(&which), "0");
  which.by = THOLE_BY_ID;
  EXPECT_EQ(newest(&which), "ArgumentMissing");
  which.by = 3;
  EXPECT_EQ(newest(&which), "ArgumentBad");
  which = sized<thole_which>();
  which.reserved = 1;
  EXPECT_EQ(newest(&which), "ArgumentBad");
}

TEST_F(checkpoint, what_cannot_be_answered_is_not_done) {
  thole_fenced fenced{};
  EXPECT_EQ(api.fence(w.core, &w.store, 2, &fenced, &status), THOLE_INVALID);
  EXPECT_EQ(save(1, 1), "committed");  // fence 2 was not published

  const thole_save s = rank(1, 2);
  thole_writer writer{};
  ASSERT_EQ(api.begin(w.core, &w.store, &s, &writer, &status), THOLE_OK) << status.message;
  ASSERT_EQ(api.put(writer, &tensor.item, &status), THOLE_OK) << status.message;
  thole_sealed sealed{};
  EXPECT_EQ(api.seal(writer, &sealed, &status), THOLE_INVALID);
  EXPECT_EQ(newest(), "1");
  EXPECT_EQ(api.seal(writer, nullptr, &status), THOLE_OK) << status.message;
  EXPECT_EQ(newest(), "2");
  EXPECT_EQ(api.end(writer, nullptr), THOLE_OK);
}

TEST_F(checkpoint, a_relative_folder_stays_where_it_was) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(w.place.path);
  w.store.folder = THOLE_STR("store");
  const thole_save s = rank(1, 1);
  thole_writer writer{};
  const thole_code begun = api.begin(w.core, &w.store, &s, &writer, &status);
  std::filesystem::current_path(before);
  ASSERT_EQ(begun, THOLE_OK) << status.message;
  ASSERT_EQ(api.put(writer, &tensor.item, &status), THOLE_OK) << status.message;
  EXPECT_EQ(api.seal(writer, nullptr, &status), THOLE_OK) << status.message;
  EXPECT_EQ(api.end(writer, nullptr), THOLE_OK);
  w.store.folder = str(w.store_folder);
  EXPECT_EQ(newest(), "1");
}

TEST_F(checkpoint, bounds_are_where_the_header_says) {
  EXPECT_EQ(save(THOLE_MAX_ATTEMPT, THOLE_MAX_STEP), "committed");
  EXPECT_EQ(save(THOLE_MAX_ATTEMPT + 1, 1), "OverBound");
  EXPECT_EQ(save(1, THOLE_MAX_STEP + 1), "OverBound");
  EXPECT_EQ(api.fence(w.core, &w.store, THOLE_MAX_ATTEMPT + 1, nullptr, &status), THOLE_INVALID);

  std::vector<thole_reader> readers;
  for (;;) {
    thole_reader reader{};
    const thole_code code = api.open(w.core, &w.store, nullptr, &reader, &status);
    if (code != THOLE_OK) {
      EXPECT_EQ(code, THOLE_EXHAUSTED);
      EXPECT_STREQ(status.reason, "HandlesOut");
      break;
    }
    readers.push_back(reader);
  }
  EXPECT_EQ(readers.size(), THOLE_MAX_OPEN);
  for (const thole_reader reader : readers) EXPECT_EQ(api.close(reader, nullptr), THOLE_OK);
  EXPECT_EQ(newest(), std::to_string(THOLE_MAX_STEP));
  EXPECT_EQ(listed(), 1u);
}
