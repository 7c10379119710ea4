#include "metrics/reader.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/file.h"
#include "metrics/layout.h"
#include "metrics/registry.h"

namespace thole::metrics {
namespace {

class Reader : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "thole-reader-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string &name) const { return folder_ + "/" + name; }

  // The used bytes of a small file with one of each kind.
  std::string sample_file() {
    {
      auto r = *registry::open(path("sample"));
      const auto bind = [&](const definition &d, std::vector<std::string_view> values) {
        return *r->bind(*r->define(d), values);
      };
      thole_counter_add(bind({"c", "Help.", "", kind::counter, 0, {"a"}, {}}, {"x"}), 3);
      thole_histogram_observe(bind({"h", "", "", kind::histogram, 0, {}, {1, 2}}, {}), 1.5);
      thole_gauge_set(bind({"g", "", "", kind::gauge, 0, {}, {}}, {}), 4);
    }
    std::string all = *read_file(path("sample"), 1 << 20);
    uint64_t used = 0;
    std::memcpy(&used, &all[offsetof(layout::header, used)], sizeof used);
    return all.substr(0, used);
  }
  std::string folder_;
};

TEST_F(Reader, ReadsWhatWasWritten) {
  sample_file();
  const auto content = read_content(path("sample"));
  ASSERT_TRUE(content) << content.error().text();
  ASSERT_EQ(content->families.size(), 3u);
  ASSERT_EQ(content->series.size(), 3u);
  EXPECT_EQ(content->families[0].help, "Help.");
  EXPECT_EQ(content->series[0].values, std::vector<std::string>{"x"});
  EXPECT_EQ(content->series[0].said.value, 3);
  EXPECT_EQ(content->series[1].said.buckets, (std::vector<uint64_t>{0, 1, 0}));
  EXPECT_EQ(content->series[2].said.value, 4);
  EXPECT_FALSE(content->mark.open);
  EXPECT_TRUE(lives(content->mark.process));
  process_mark other = content->mark.process;
  other.start_ticks += 1;  // the same pid, another process
  EXPECT_FALSE(lives(other));
}

TEST_F(Reader, EveryCutIsRefused) {
  const std::string whole = sample_file();
  ASSERT_TRUE(parse(whole, "whole"));
  std::size_t refused = 0;
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto cut = parse(std::string_view(whole).substr(0, n), "cut");
    if (!cut && cut.error().why == reason::MetricsFileBad) ++refused;
  }
  EXPECT_EQ(refused, whole.size());
  std::printf("%zu of %zu cuts refused\n", refused, whole.size());
}

// Bytes that are wrong may be values like any others; they must not lead outside of the bytes, which a sanitizer sees.
TEST_F(Reader, NoChangedByteLeadsAstray) {
  const std::string whole = sample_file();
  std::mt19937_64 random(11);
  std::size_t refused = 0;
  std::size_t read = 0;
  for (int i = 0; i < 40'000; ++i) {
    std::string other = whole;
    for (uint64_t n = 1 + random() % 4; n > 0; --n) {
      const std::size_t at =
          random() % 8 == 0 ? random() % 80 : layout::header_size + random() % (whole.size() - layout::header_size);
      const unsigned char values[] = {0, 1, 0x7F, 0x80, 0xFF, static_cast<unsigned char>(random())};
      other[at] = static_cast<char>(values[random() % 6]);
    }
    (parse(other, "other") ? read : refused) += 1;
  }
  EXPECT_GT(refused, 1000u);
  EXPECT_GT(read, 1000u);
  std::printf("%zu changed files refused, %zu read\n", refused, read);
}

TEST_F(Reader, OnlyRegularFiles) {
  EXPECT_EQ(read_mark(path("none")).error().why, reason::MetricsFileMissing);
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_mark(path("pipe")).error().why, reason::MetricsFileBad);  // and does not wait for a writer
  EXPECT_EQ(read_mark(folder_).error().why, reason::MetricsFileBad);
  ASSERT_TRUE(replace_file(path("text"), std::string(5000, 'x')));
  EXPECT_EQ(read_content(path("text")).error().why, reason::MetricsFileBad);
  ASSERT_TRUE(replace_file(path("text"), ""));
  EXPECT_EQ(read_content(path("text")).error().why, reason::MetricsFileBad);
}

// A limit on the size of files stands for a full disk: the error comes out of bind, and no addition is ever hit by it.
TEST_F(Reader, AFullDiskIsAnErrorOfBind) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {layout::chunk, layout::chunk};
    setrlimit(RLIMIT_FSIZE, &limit);
    auto r = *registry::open(path("full"));
    const uint32_t family = *r->define({"c", "", "", kind::counter, 0, {"i"}, {}});
    std::vector<thole_cell *> cells;
    for (int i = 0; i < 2000; ++i) {
      const std::string v = std::to_string(i);
      const std::string_view values[] = {v};
      const auto cell = r->bind(family, values);
      if (!cell) {
        for (thole_cell *c : cells) thole_counter_add(c, 1);
        _exit(cell.error().why == reason::StoreFull && cells.size() > 100 ? 0 : 1);
      }
      cells.push_back(*cell);
    }
    _exit(2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  auto all = *registry::open("");
  EXPECT_TRUE(all->collect(path("full")));
}

}  // namespace
}  // namespace thole::metrics
