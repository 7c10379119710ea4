#include "metrics/registry.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <thread>

#include "base/file.h"

namespace thole::metrics {
namespace {

definition counter(std::string name, std::vector<std::string> labels = {}, uint32_t most = 0) {
  return {std::move(name), "", "", kind::counter, most, std::move(labels), {}};
}
definition gauge(std::string name, std::vector<std::string> labels = {}) {
  return {std::move(name), "", "", kind::gauge, 0, std::move(labels), {}};
}
definition histogram(std::string name, std::vector<double> bounds) {
  return {std::move(name), "", "", kind::histogram, 0, {}, std::move(bounds)};
}

class Registry : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "thole-metrics-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string &name) const { return folder_ + "/" + name; }

  static std::unique_ptr<registry> open(const std::string &file = "") {
    auto r = registry::open(file);
    EXPECT_TRUE(r) << r.error().text();
    return r ? std::move(*r) : nullptr;
  }
  static thole_cell *cell(registry &r, const definition &d, std::vector<std::string_view> values = {}) {
    const auto family = r.define(d);
    EXPECT_TRUE(family) << family.error().text();
    const auto bound = r.bind(*family, values);
    EXPECT_TRUE(bound) << bound.error().text();
    return *bound;
  }
  // Runs `work` in a child that ends by itself with 0, or is killed by `work`.
  template <class Work>
  static void in_child(Work work) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      work();
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL) << status;
  }
  static double value_of(const std::string &text, const std::string &series) {
    const std::size_t at = ("\n" + text).find("\n" + series + " ");
    return at == std::string::npos ? NAN : std::stod(text.substr(at + series.size() + 1));
  }
  std::string folder_;
};

TEST_F(Registry, TextIsExactlyThis) {
  auto r = open();
  definition d = histogram("thole_step_seconds", {0.1, 1, 2.5, 1e6});
  d.unit = "seconds", d.help = "Time of a \"step\"\\ \n.", d.labels = {"job"};
  thole_cell *steps = cell(*r, d, {"digits"});
  for (double v : {0.1, 0.1000001, 2.0, 7.0}) thole_histogram_observe(steps, v);
  thole_histogram_observe(steps, std::numeric_limits<double>::infinity());
  definition images = counter("thole_images", {"job", "part"});
  images.help = "Images trained on.";
  thole_counter_add(cell(*r, images, {"digits", "b"}), 0.1);
  thole_counter_add(cell(*r, images, {"digits", "b"}), 0.2);
  thole_counter_add(cell(*r, images, {"digits", "a\\\"\n\xC3\xA9"}), 9007199254740991.0);
  thole_gauge_set(cell(*r, gauge("thole_loss")), -1e-7);
  thole_gauge_set(cell(*r, gauge("thole_nan", {"x"}), {"1"}), NAN);
  thole_gauge_set(cell(*r, gauge("thole_nan", {"x"}), {"2"}), -INFINITY);
  EXPECT_EQ(r->render(),
            "# TYPE thole_images counter\n"
            "# HELP thole_images Images trained on.\n"
            "thole_images_total{job=\"digits\",part=\"a\\\\\\\"\\n\xC3\xA9\"} 9007199254740991\n"
            "thole_images_total{job=\"digits\",part=\"b\"} 0.30000000000000004\n"
            "# TYPE thole_loss gauge\n"
            "thole_loss -1e-07\n"
            "# TYPE thole_nan gauge\n"
            "thole_nan{x=\"1\"} NaN\n"
            "thole_nan{x=\"2\"} -Inf\n"
            "# TYPE thole_step_seconds histogram\n"
            "# UNIT thole_step_seconds seconds\n"
            "# HELP thole_step_seconds Time of a \\\"step\\\"\\\\ \\n.\n"
            "thole_step_seconds_bucket{job=\"digits\",le=\"0.1\"} 1\n"
            "thole_step_seconds_bucket{job=\"digits\",le=\"1.0\"} 2\n"
            "thole_step_seconds_bucket{job=\"digits\",le=\"2.5\"} 3\n"
            "thole_step_seconds_bucket{job=\"digits\",le=\"1e+06\"} 4\n"
            "thole_step_seconds_bucket{job=\"digits\",le=\"+Inf\"} 5\n"
            "thole_step_seconds_count{job=\"digits\"} 5\n"
            "thole_step_seconds_sum{job=\"digits\"} +Inf\n"
            "# EOF\n");
  EXPECT_EQ(open()->render(), "# EOF\n");
}

TEST_F(Registry, NotANumberIsAboveEveryBound) {
  auto r = open();
  thole_cell *c = cell(*r, histogram("h", {1}));
  thole_histogram_observe(c, NAN);
  EXPECT_EQ(value_of(r->render(), "h_bucket{le=\"1.0\"}"), 0);
  EXPECT_EQ(value_of(r->render(), "h_count"), 1);
}

TEST_F(Registry, DefinitionsAreCheckedAndFoundAgain) {
  auto r = open();
  const uint32_t first = *r->define(counter("a", {"x"}));
  EXPECT_EQ(*r->define(counter("a", {"x"})), first);
  EXPECT_EQ(r->define(counter("a", {"y"})).error().why, reason::MetricDiffers);
  EXPECT_EQ(r->define(gauge("a", {"x"})).error().why, reason::MetricDiffers);
  int refused = 0;
  for (const char *name :
       {"", "1a", "a-b", "a b", "a:b", "\xC3\xA9", "a_total", "a_count", "a_sum", "a_bucket", "a_created", "a_info"}) {
    EXPECT_EQ(r->define(counter(name)).error().why, reason::MetricBad) << name;
    ++refused;
  }
  for (auto labels :
       std::vector<std::vector<std::string>>{{"1"}, {"__a"}, {"a", "a"}, {""}, std::vector<std::string>(17, "a")}) {
    EXPECT_EQ(r->define(counter("b", labels)).error().why, reason::MetricBad);
    ++refused;
  }
  for (auto bounds : std::vector<std::vector<double>>{{1, 1}, {2, 1}, {NAN}, {INFINITY}, std::vector<double>(65, 0)}) {
    EXPECT_EQ(r->define(histogram("c", bounds)).error().why, reason::MetricBad);
    ++refused;
  }
  definition d = gauge("d");
  d.unit = "seconds";
  EXPECT_EQ(r->define(d).error().why, reason::MetricBad);
  d = histogram("e", {});
  d.labels = {"le"};
  EXPECT_EQ(r->define(d).error().why, reason::MetricBad);
  EXPECT_TRUE(r->define(gauge("f_info", {"le"})));
  EXPECT_TRUE(r->define(histogram("g", std::vector<double>())));
  EXPECT_EQ(r->bind(999, {}).error().why, reason::MetricBad);
  const std::string_view good[] = {"v"};
  const std::string_view bad[] = {"\xFF"};
  const std::string long_value(most_value + 1, 'x');
  const std::string_view too_long[] = {long_value};
  EXPECT_TRUE(r->bind(first, good));
  EXPECT_EQ(*r->bind(first, good), *r->bind(first, good));
  EXPECT_EQ(r->bind(first, bad).error().why, reason::MetricBad);
  EXPECT_EQ(r->bind(first, too_long).error().why, reason::MetricBad);
  EXPECT_EQ(r->bind(first, {}).error().why, reason::MetricBad);
  std::printf("%d of %d bad definitions refused\n", refused, 22);
}

TEST_F(Registry, CellsAreApartAndAligned) {
  auto r = open(path("m"));
  uintptr_t last = 0;
  for (int i = 0; i < 900; ++i) {
    const std::string v = std::to_string(i);
    thole_cell *c = cell(*r, counter("many", {"i"}), {v});
    const auto at = reinterpret_cast<uintptr_t>(c);
    EXPECT_EQ(at % 64, 0u);
    EXPECT_TRUE(last == 0 || at - last >= 64 || last - at >= 64);
    last = at;
    thole_counter_add(c, i);
  }
  auto other = open();
  // This process lives, so its file is that of a living one.
  ASSERT_TRUE(other->collect(path("m")));
  EXPECT_EQ(other->render(), r->render());
}

TEST_F(Registry, SeriesAreBounded) {
  auto r = open();
  const definition d = counter("bounded", {"a", "b"}, 3);
  for (int i = 0; i < 10; ++i) {
    const std::string v = std::to_string(i);
    thole_counter_add(cell(*r, d, {v, "x"}), 1);
  }
  EXPECT_EQ(r->render(),
            "# TYPE bounded counter\n"
            "bounded_total{a=\"0\",b=\"x\"} 1\nbounded_total{a=\"1\",b=\"x\"} 1\nbounded_total{a=\"2\",b=\"x\"} 1\n"
            "bounded_total{a=\"overflow\",b=\"overflow\"} 7\n"
            "# TYPE thole_metrics_dropped_series counter\n"
            "# HELP thole_metrics_dropped_series Series that were counted into a family's overflow series, or not at "
            "all.\n"
            "thole_metrics_dropped_series_total{family=\"bounded\"} 7\n# EOF\n");
}

TEST_F(Registry, FoldedSeriesAreBoundedToo) {
  auto all = open();
  double total = 0;
  for (int process = 0; process < 20; ++process) {
    const std::string file = path("m" + std::to_string(process));
    {
      auto r = open(file);
      const std::string v = std::to_string(process);
      thole_counter_add(cell(*r, counter("c", {"p"}, 5), {v}), 1 + process);
      thole_gauge_set(cell(*r, gauge("g", {"p"}), {v}), 1);
      total += 1 + process;
    }
    ASSERT_TRUE(all->collect(file));
  }
  const std::string text = all->render();
  double sum = 0;
  int series = 0;
  for (std::size_t at = text.find("\nc_total"); at != std::string::npos; at = text.find("\nc_total", at + 1)) {
    sum += std::stod(text.substr(text.find("} ", at) + 2));
    ++series;
  }
  EXPECT_EQ(series, 6);
  EXPECT_EQ(sum, total);
  EXPECT_EQ(value_of(text, "thole_metrics_dropped_series_total{family=\"c\"}"), 15);
  EXPECT_EQ(text.find("\ng{"), std::string::npos);
}

TEST_F(Registry, TooManyFamiliesAreRefused) {
  auto r = open();
  for (std::size_t i = 0; i < most_families; ++i) ASSERT_TRUE(r->define(counter("c" + std::to_string(i))));
  EXPECT_EQ(r->define(counter("one_more")).error().why, reason::MetricsFull);
  EXPECT_TRUE(r->define(counter("c7")));
}

TEST_F(Registry, AddsFromEightThreadsAreExact) {
  auto r = open(path("m"));
  thole_cell *c = cell(*r, counter("c"));
  thole_cell *h = cell(*r, histogram("h", {1, 2}));
  constexpr int threads = 8;
  constexpr int times = 20'000;
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([&] {
      for (int i = 0; i < times; ++i) {
        thole_counter_add(c, 1);
        thole_histogram_observe(h, i % 3 + 0.5);
      }
      for (int i = 0; i < 50; ++i) {
        const std::string v = std::to_string(i);
        thole_counter_add(cell(*r, counter("bound", {"i"}), {v}), 1);
      }
    });
  for (int i = 0; i < 20; ++i) r->render();
  for (auto &t : all) t.join();
  const std::string text = r->render();
  EXPECT_EQ(value_of(text, "c_total"), threads * times);
  EXPECT_EQ(value_of(text, "h_count"), threads * times);
  EXPECT_EQ(value_of(text, "bound_total{i=\"49\"}"), threads);
  std::printf("%d of %d additions counted\n", static_cast<int>(value_of(text, "c_total")), threads * times);
}

TEST_F(Registry, CountersOfTheDeadStayAndGaugesEnd) {
  auto all = open();
  in_child([&] {
    auto r = open(path("a"));
    thole_counter_add(cell(*r, counter("c")), 5);
    thole_gauge_set(cell(*r, gauge("g")), 1);
    thole_histogram_observe(cell(*r, histogram("h", {1})), 0.5);
    r.release();  // its end is a kill, not a close
    kill(getpid(), SIGKILL);
  });
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(all->collect(path("a")));
    const std::string text = all->render();
    EXPECT_EQ(value_of(text, "c_total"), 5);
    EXPECT_EQ(value_of(text, "h_count"), 1);
    EXPECT_TRUE(std::isnan(value_of(text, "g")));
  }
  // The next attempt under the same name is another process: it adds to what was.
  in_child([&] {
    auto r = open(path("a"));
    thole_counter_add(cell(*r, counter("c")), 2);
  });
  ASSERT_TRUE(all->collect(path("a")));
  EXPECT_EQ(value_of(all->render(), "c_total"), 7);
  std::filesystem::remove(path("a"));
  EXPECT_EQ(all->collect(path("a")).error().why, reason::MetricsFileMissing);
  EXPECT_EQ(value_of(all->render(), "c_total"), 7);
}

TEST_F(Registry, ALivingFileThatVanishesKeepsItsCountersOnly) {
  auto writer = open(path("a"));
  thole_cell *c = cell(*writer, counter("c"));
  thole_counter_add(c, 3);
  thole_gauge_set(cell(*writer, gauge("g")), 4);
  auto all = open();
  ASSERT_TRUE(all->collect(path("a")));
  EXPECT_EQ(value_of(all->render(), "g"), 4);
  thole_counter_add(c, 1);
  ASSERT_TRUE(all->collect(path("a")));
  EXPECT_EQ(value_of(all->render(), "c_total"), 4);
  std::filesystem::remove(path("a"));
  EXPECT_FALSE(all->collect(path("a")));
  EXPECT_EQ(value_of(all->render(), "c_total"), 4);
  EXPECT_TRUE(std::isnan(value_of(all->render(), "g")));
}

TEST_F(Registry, ItsOwnFileIsNotCountedTwice) {
  auto r = open(path("own"));
  thole_counter_add(cell(*r, counter("c")), 2);
  ASSERT_TRUE(r->collect(path("own")));
  EXPECT_EQ(value_of(r->render(), "c_total"), 2);
}

TEST_F(Registry, AFileIsNotTakenFromALivingProcessNorFromAStranger) {
  auto r = open(path("a"));
  EXPECT_EQ(registry::open(path("a")).error().why, reason::MetricsFileTaken);
  r.reset();
  EXPECT_TRUE(registry::open(path("a")));  // closed
  ASSERT_TRUE(replace_file(path("b"), "somebody's diary"));
  EXPECT_EQ(registry::open(path("b")).error().why, reason::MetricsFileBad);
  EXPECT_EQ(*read_file(path("b"), 100), "somebody's diary");
  ASSERT_TRUE(replace_file(path("c"), ""));
  EXPECT_TRUE(registry::open(path("c")));
  EXPECT_FALSE(registry::open(path("missing/d")));
  int files = 0;
  for (const auto &entry : std::filesystem::directory_iterator(folder_)) ++files, (void)entry;
  EXPECT_EQ(files, 3);
}

TEST_F(Registry, AForkedChildWithAFileOfItsOwnLeavesTheParentAlone) {
  auto r = open(path("parent"));
  thole_counter_add(cell(*r, counter("c")), 1);
  in_child([&] {
    auto own = open(path("child"));
    thole_counter_add(cell(*own, counter("c")), 10);
  });
  EXPECT_EQ(value_of(r->render(), "c_total"), 1);
  ASSERT_TRUE(r->collect(path("child")));
  EXPECT_EQ(value_of(r->render(), "c_total"), 11);
}

TEST_F(Registry, OurDefinitionBeatsACollectedOne) {
  in_child([&] {
    auto r = open(path("script"));
    thole_counter_add(cell(*r, counter("thole_incidents", {"odd"}), {"x"}), 1);
  });
  auto all = open();
  ASSERT_TRUE(all->collect(path("script")));
  thole_counter_add(cell(*all, counter("thole_incidents", {"job"}), {"j"}), 3);
  const std::string text = all->render();
  EXPECT_EQ(value_of(text, "thole_incidents_total{job=\"j\"}"), 3);
  EXPECT_EQ(text.find("odd"), std::string::npos);
  auto later = open();
  thole_counter_add(cell(*later, counter("thole_incidents", {"job"}), {"j"}), 3);
  ASSERT_TRUE(later->collect(path("script")));
  EXPECT_EQ(value_of(later->render(), "thole_metrics_dropped_series_total{family=\"thole_incidents\"}"), 1);
}

// A writer is killed at a random instant of adding and of making series. Whoever collects it meanwhile and afterwards
// never sees a counter fall or a series vanish, and in the end everything that the writer had told us it counted.
TEST_F(Registry, AKilledWriterLosesNothing) {
  constexpr int rounds = 200;
  auto all = open();
  double total = 0;
  uint64_t falls = 0;
  uint64_t looks = 0;
  uint64_t counted = 0;
  unsigned seed = 4711;
  for (int round = 0; round < rounds; ++round) {
    const std::string file = path("w" + std::to_string(round % 3));  // names come again
    std::filesystem::remove(file);
    int pipes[2];
    ASSERT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto r = open(file);
      thole_cell *c = cell(*r, counter("c"));
      for (uint64_t i = 1;; ++i) {
        thole_counter_add(c, 1);
        const std::string v = std::to_string(i % 40);
        thole_counter_add(cell(*r, counter("s", {"i"}), {v}), 1);
        if (i % 16 == 0 && write(pipes[1], &i, sizeof i) != sizeof i) _exit(1);
      }
    }
    close(pipes[1]);
    const int tells = 1 + rand_r(&seed) % 40;
    uint64_t told = 0;
    double last = total;
    for (int i = 0; i < tells; ++i) {
      ASSERT_EQ(read(pipes[0], &told, sizeof told), static_cast<ssize_t>(sizeof told));
      if (i % 8 != 0) continue;
      ASSERT_TRUE(all->collect(file));
      const double now = value_of(all->render(), "c_total");
      if (!(now >= last) || now < total + static_cast<double>(told)) ++falls;
      last = now;
      ++looks;
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(pipes[0]);
    const auto done = all->collect(file);
    ASSERT_TRUE(done) << done.error().text();
    const std::string text = all->render();
    const double now = value_of(text, "c_total");
    if (!(now >= last) || now < total + static_cast<double>(told)) ++falls;
    ++looks;
    counted += told;
    total = now;
  }
  EXPECT_EQ(falls, 0u);
  EXPECT_GE(total, static_cast<double>(counted));
  std::printf("%d of %d writers killed; %llu looks, %llu falls; %.0f counted, at least %llu told\n", rounds, rounds,
              static_cast<unsigned long long>(looks), static_cast<unsigned long long>(falls), total,
              static_cast<unsigned long long>(counted));
}

}  // namespace
}  // namespace thole::metrics
