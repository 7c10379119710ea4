#include "base/text.h"

#include <gtest/gtest.h>

#include <array>

namespace thole {
namespace {

// Cases of Markus Kuhn's UTF-8 decoder stress test, by kind.
TEST(Text, Utf8) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x9A\xA3"));
  EXPECT_TRUE(is_utf8("\xF4\x8F\xBF\xBF"));
  for (std::string_view bad : {"\x80", "\xC3", "\xC0\xAF", "\xE0\x80\xAF", "\xF0\x80\x80\xAF", "\xED\xA0\x80",
                               "\xF4\x90\x80\x80", "\xFE", "\xFF", "\xF8\x88\x80\x80\x80", "a\xE2\x82", "\xC3("})
    EXPECT_FALSE(is_utf8(bad)) << hex(bytes_of(bad));
}

TEST(Text, NearestWord) {
  constexpr std::array<std::string_view, 4> words = {"members", "memory", "name", "gpus"};
  EXPECT_EQ(nearest("member", words), "members");
  EXPECT_EQ(nearest("memroy", words), "memory");
  EXPECT_EQ(nearest("nmae", words), "name");
  EXPECT_EQ(nearest("entirely", words), "");
  EXPECT_EQ(nearest("", words), "");
  EXPECT_EQ(nearest(std::string(100, 'x'), words), "");
}

TEST(Text, NumbersAreExact) {
  EXPECT_EQ(parse_u64("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(parse_u64("0"), 0u);
  for (std::string_view bad : {"", "18446744073709551616", "-1", "+1", " 1", "1 ", "0x10", "1e3"})
    EXPECT_FALSE(parse_u64(bad)) << bad;
}

TEST(Text, BytesForPeople) {
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1024), "1.0 KiB");
  EXPECT_EQ(mib_text(10240), "10.0 GiB");
  EXPECT_EQ(bytes_text(UINT64_MAX), "16.0 EiB");
}

}  // namespace
}  // namespace thole
