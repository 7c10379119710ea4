#include "capi/args.h"

#include <gtest/gtest.h>

#include <cstring>

namespace thole {
namespace {

struct sized {
  uint64_t struct_size;
  uint64_t a;
  uint64_t b;
};

TEST(Args, TakeKnowsOlderAndNewerCallers) {
  const sized full{sizeof(sized), 1, 2};
  EXPECT_EQ(take(&full, "x")->b, 2u);
  const sized older{16, 1, 2};  // compiled before b
  EXPECT_EQ(take(&older, "x")->a, 1u);
  EXPECT_EQ(take(&older, "x")->b, 0u);
  const struct {
    sized known{sizeof(sized) + 64, 1, 2};
    unsigned char tail[64] = {0xFF};
  } newer;
  EXPECT_EQ(take(&newer.known, "x")->b, 2u);
}

TEST(Args, TakeRefusesWhatWasNotSet) {
  EXPECT_EQ(take<sized>(nullptr, "x").error().why, reason::ArgumentMissing);
  for (uint64_t size : {uint64_t{0}, uint64_t{7}}) {
    const sized s{size, 1, 2};
    EXPECT_EQ(take(&s, "x").error().why, reason::ArgumentMissing);
  }
  const sized garbage{uint64_t{1} << 40, 1, 2};
  EXPECT_EQ(take(&garbage, "x").error().why, reason::ArgumentBad);
}

TEST(Args, GiveKeepsToTheCallersSize) {
  for (uint64_t size = 8; size <= 24; size += 8) {
    alignas(8) unsigned char memory[64];
    std::memset(memory, 0xA5, sizeof memory);
    auto *to = reinterpret_cast<sized *>(memory);
    to->struct_size = size;
    ASSERT_TRUE(give(to, sized{0, 1, 2}, "x"));
    EXPECT_EQ(to->struct_size, size);
    for (std::size_t i = size; i < sizeof memory; ++i) ASSERT_EQ(memory[i], 0xA5);
  }
}

TEST(Args, Lists) {
  sized rows[2] = {{sizeof(sized), 1, 2}, {sizeof(sized), 3, 4}};
  const thole_list good{rows, 2, sizeof(sized)};
  EXPECT_TRUE(check_list(good, 8, 10, "x"));
  EXPECT_EQ(take_at<sized>(good, 1, "x")->b, 4u);
  EXPECT_EQ(check_list({nullptr, 2, 24}, 8, 10, "x").error().why, reason::ArgumentBad);
  EXPECT_EQ(check_list({reinterpret_cast<char *>(rows) + 4, 1, 24}, 8, 10, "x").error().why, reason::ArgumentBad);
  EXPECT_EQ(check_list({rows, 2, 0}, 8, 10, "x").error().why, reason::ArgumentBad);
  EXPECT_EQ(check_list({rows, 2, 12}, 8, 10, "x").error().why, reason::ArgumentBad);
  EXPECT_EQ(check_list({rows, 11, 24}, 8, 10, "x").error().why, reason::OverBound);
  EXPECT_TRUE(check_list({nullptr, 0, 0}, 8, 10, "x"));
  const thole_list narrow{rows, 2, 16};  // struct_size beyond the stride
  EXPECT_EQ(take_at<sized>(narrow, 0, "x").error().why, reason::ArgumentBad);
}

TEST(Args, Text) {
  EXPECT_EQ(*take_text(THOLE_STR("abc"), 3, "x"), "abc");
  EXPECT_EQ(take_text(THOLE_STR("abcd"), 3, "x").error().why, reason::OverBound);
  EXPECT_EQ(take_text(THOLE_STR("a\xFF"), 3, "x").error().why, reason::TextNotUtf8);
  EXPECT_EQ(take_text({"a\0b", 3}, 3, "x").error().why, reason::ArgumentBad);
  EXPECT_EQ(take_text({nullptr, 1}, 3, "x").error().why, reason::ArgumentMissing);
  EXPECT_EQ(*take_text({nullptr, 0}, 3, "x"), "");
}

}  // namespace
}  // namespace thole
