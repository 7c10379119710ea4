#include "metrics/text.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <sstream>

#include "base/file.h"
#include "metrics/registry.h"

namespace thole::metrics {
namespace {

TEST(Text, NumbersReadBackBitForBit) {
  std::mt19937_64 random(3);
  int exact = 0;
  constexpr int numbers = 100'000;
  for (int i = 0; i < numbers; ++i) {
    const uint64_t bits = random();
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) value = static_cast<double>(bits >> 11);
    if (std::strtod(number_text(value).c_str(), nullptr) == value) ++exact;
    if (std::strtod(bound_text(value).c_str(), nullptr) != value) --exact;
  }
  EXPECT_EQ(exact, numbers);
  std::printf("%d of %d numbers read back\n", exact, numbers);
  EXPECT_EQ(number_text(NAN), "NaN");
  EXPECT_EQ(number_text(INFINITY), "+Inf");
  EXPECT_EQ(number_text(-INFINITY), "-Inf");
  EXPECT_EQ(number_text(-0.0), "0");
}

// The canonical forms that OpenMetrics lists, and some around them.
TEST(Text, BoundsAreCanonical) {
  const std::pair<double, const char *> cases[] = {{0, "0.0"},
                                                   {1, "1.0"},
                                                   {0.1, "0.1"},
                                                   {1e-5, "1e-05"},
                                                   {0.0001, "0.0001"},
                                                   {100000, "100000.0"},
                                                   {1e6, "1e+06"},
                                                   {1e7, "1e+07"},
                                                   {1e10, "1e+10"},
                                                   {1234567, "1.234567e+06"},
                                                   {2.5, "2.5"},
                                                   {-1e6, "-1e+06"},
                                                   {1048576.5, "1.0485765e+06"},
                                                   {1e21, "1e+21"},
                                                   {123456.75, "123456.75"}};
  for (const auto &[value, text] : cases) EXPECT_EQ(bound_text(value), text);
}

TEST(Text, AHistogramThatCanFallHasNoSum) {
  const definition d = {"h", "", "", kind::histogram, 0, {}, {-1, 1}};
  std::map<std::string, family_sum> families;
  families["h"] = {&d, {{{}, {-3, {1, 0, 1}}}}};
  EXPECT_EQ(metrics::to_text(families),
            "# TYPE h histogram\nh_bucket{le=\"-1.0\"} 1\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n# EOF\n");
}

// Two readers of Prometheus's own: its OpenMetrics parser, by way of a block that is made from the text (each sample
// then needs a time, which is added here), and the linter, which reads the classic format: there a counter's help
// belongs to another name, and that is all that it may find.
TEST(Text, PromtoolReadsIt) {
  if (std::system("command -v promtool > /dev/null") != 0) GTEST_SKIP() << "promtool is not installed";
  auto r = *registry::open("");
  const auto bind = [&](const definition &d, std::vector<std::string_view> values) {
    return *r->bind(*r->define(d), values);
  };
  std::mt19937_64 random(5);
  std::size_t samples = 0;
  for (int i = 0; i < 50; ++i) {
    std::string value;
    for (int c = 0; c < 8; ++c) value += "a\\\"\n {}=,#"[random() % 10];
    value += "\xC3\xA9";
    thole_counter_add(
        bind({"c_bytes", "Bytes.", "bytes", kind::counter, 0, {"a", "b"}, {}}, {value, std::to_string(i)}), 1e-9 * i);
    thole_gauge_set(bind({"g", "A \\ and\na line.", "", kind::gauge, 0, {"a"}, {}}, {std::to_string(i) + value}),
                    std::ldexp(1.1, i * 20 - 500));
    thole_histogram_observe(
        bind({"h_seconds", "Time.", "seconds", kind::histogram, 0, {"a"}, {0.1, 1, 1e7}}, {value + std::to_string(i)}),
        i);
    samples += 1 + 1 + 6;
  }
  const std::string text = r->render();
  std::string folder = testing::TempDir() + "thole-text-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::string timed;
  std::istringstream lines(text);
  std::size_t found = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line[0] != '#') line += " 1700000000", ++found;
    timed += line + "\n";
  }
  EXPECT_EQ(found, samples);
  ASSERT_TRUE(replace_file(folder + "/om", timed));
  ASSERT_TRUE(replace_file(folder + "/classic", text));
  const std::string in = "cd '" + folder + "' && ";
  EXPECT_EQ(std::system((in + "promtool tsdb create-blocks-from openmetrics om blocks > om.out 2>&1").c_str()), 0)
      << *read_file(folder + "/om.out", 1 << 20);
  const std::string made = *read_file(folder + "/om.out", 1 << 20);
  EXPECT_NE(made.find(fmt::format(" {} ", samples)), std::string::npos) << made;
  const int lint = std::system((in + "promtool check metrics < classic > lint 2>&1").c_str());
  EXPECT_TRUE(lint == 0 || WEXITSTATUS(lint) == 3) << *read_file(folder + "/lint", 1 << 20);
  EXPECT_EQ(*read_file(folder + "/lint", 1 << 20), "c_bytes_total no help text\n");
  // The oracle can say no.
  ASSERT_TRUE(replace_file(folder + "/om", timed.substr(0, timed.size() - 6)));
  EXPECT_NE(std::system((in + "promtool tsdb create-blocks-from openmetrics om bad > om.out 2>&1").c_str()), 0);
  std::filesystem::remove_all(folder);
  std::printf("promtool read %zu of %zu samples\n", found, samples);
}

}  // namespace
}  // namespace thole::metrics
