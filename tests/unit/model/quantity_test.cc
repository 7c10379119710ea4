#include "model/quantity.h"

#include <gtest/gtest.h>

#include <random>

namespace thole::model {
namespace {

TEST(Quantity, ReadsMemory) {
  EXPECT_EQ(parse_memory("10Gi").value, int64_t{10} << 30);
  EXPECT_EQ(parse_memory("10G").value, 10'000'000'000);
  EXPECT_EQ(parse_memory("512Mi").value, int64_t{512} << 20);
  EXPECT_EQ(parse_memory("0Mi").value, 0);
  EXPECT_EQ(parse_memory("8191Pi").value, int64_t{8191} << 50);
}

TEST(Quantity, SaysWhatToWrite) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"10GB", "`10GB` has the unit 'GB', which is not known: write 10Gi"},
      {"10gi", "`10gi` has the unit 'gi', which is not known: write 10Gi"},
      {"512MB", "`512MB` has the unit 'MB', which is not known: write 512Mi"},
      {"10", "`10` has no unit: write 10Mi or 10Gi"},
      {"-10Gi", "`-10Gi` is negative: write a whole number and a unit, such as 512Mi or 10Gi"},
      {"1.5Gi", "`1.5Gi` is not a whole number: write 1536Mi"},
      {"0.25Ti", "`0.25Ti` is not a whole number: write 256Gi"},
      {"1.5G", "`1.5G` is not a whole number: write 1500M"},
      {"8192Pi", "`8192Pi` is larger than anything there is"},
      {"99999999999999999999Gi", "`99999999999999999999Gi` is larger than anything there is"},
      {"Gi", "`Gi` is no size: write a whole number and a unit, such as 512Mi or 10Gi"},
      {"", "write a whole number and a unit, such as 512Mi or 10Gi"},
  };
  for (const auto &[text, sentence] : cases) {
    EXPECT_FALSE(parse_memory(text).value) << text;
    EXPECT_EQ(parse_memory(text).sentence, sentence);
  }
  EXPECT_EQ(parse_share("25%").sentence, "`25%` is a percentage: write 0.25");
}

TEST(Quantity, ReadsTimes) {
  EXPECT_EQ(parse_duration("30s").value, 30'000);
  EXPECT_EQ(parse_duration("1h30m").value, 5'400'000);
  EXPECT_EQ(parse_duration("500ms").value, 500);
  for (std::string_view bad : {"30", "30m1h", "1h1h", "-1s", "1.5h", "s", "", "1w", "99999999999999999999d", "1h "})
    EXPECT_FALSE(parse_duration(bad).value) << bad;
}

TEST(Quantity, ReadsCoresAndShares) {
  EXPECT_EQ(parse_cpu("2").value, 2000);
  EXPECT_EQ(parse_cpu("500m").value, 500);
  EXPECT_EQ(parse_cpu("0.5").value, 500);
  EXPECT_EQ(parse_share("0.125").value, 125);
  EXPECT_EQ(parse_share("1").value, 1000);
  for (std::string_view bad : {"", "m", ".5", "1.", "1e3", "-1", "0.0001", "two", "1 000"}) {
    EXPECT_FALSE(parse_cpu(bad).value) << bad;
    EXPECT_FALSE(parse_share(bad).value) << bad;
    EXPECT_FALSE(parse_share(bad).sentence.empty()) << bad;
  }
}

// What is written is read as the same value, and written the same again.
TEST(Quantity, WritesOneForm) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 10'000; ++i) {
    // Any number of a random unit: sizes that people write, and the ones between.
    const auto value = static_cast<int64_t>(random() >> 34) * (int64_t{1} << random() % 20);
    EXPECT_EQ(parse_duration(duration_text(value)).value, value);
    EXPECT_EQ(parse_cpu(cpu_text(value % 1'000'000)).value, value % 1'000'000);
    EXPECT_EQ(parse_share(share_text(value % 1001)).value, value % 1001);
    const int64_t memory = value * 1000;
    EXPECT_EQ(parse_memory(memory_text(memory)).value, memory);
  }
  EXPECT_EQ(memory_text(int64_t{10} << 30), "10Gi");
  EXPECT_EQ(memory_text(10'000'000'000), "10G");
  EXPECT_EQ(memory_text(int64_t{1536} << 20), "1536Mi");
  EXPECT_EQ(duration_text(5'400'000), "90m");
  EXPECT_EQ(cpu_text(2500), "2500m");
  EXPECT_EQ(share_text(250), "0.25");
}

}  // namespace
}  // namespace thole::model
