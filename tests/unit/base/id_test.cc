#include "base/id.h"

#include <gtest/gtest.h>

#include <set>

namespace thole {
namespace {

TEST(Id, TextAndBytesGoBothWays) {
  const id128 id{0x0011223344556677, 0x8899aabbccddeeff};
  EXPECT_EQ(to_text(id), "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_EQ(parse_id(to_text(id)), id);
  EXPECT_EQ(from_bytes(to_bytes(id).data()), id);
  EXPECT_EQ(to_bytes(id)[0], 0x00);
  EXPECT_EQ(to_bytes(id)[15], 0xff);
}

TEST(Id, OnlyTheCanonicalTextIsRead) {
  for (std::string_view bad : {"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-AABBCCDDEEFF",
                               "00112233445566778899aabbccddeeff", "0011223g-4455-6677-8899-aabbccddeeff"})
    EXPECT_FALSE(parse_id(bad)) << bad;
}

TEST(Id, RandomOnesDifferAndSayTheirVersion) {
  std::set<id128> seen;
  for (int i = 0; i < 1000; ++i) {
    const auto id = random_id();
    ASSERT_TRUE(id);
    EXPECT_EQ(to_text(*id)[14], '4');
    seen.insert(*id);
  }
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(Id, HashedOnesDependOnEachPartAndItsBounds) {
  EXPECT_EQ(hashed_id({"a", "b"}), hashed_id({"a", "b"}));
  EXPECT_NE(hashed_id({"a", "b"}), hashed_id({"ab"}));
  EXPECT_NE(hashed_id({"a", "b"}), hashed_id({"", "ab"}));
  EXPECT_EQ(to_text(hashed_id({"a"}))[14], '8');
}

}  // namespace
}  // namespace thole
