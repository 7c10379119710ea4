// The metrics service from outside: families are defined, series bound, cells written without a call, and files of
// other processes folded in. Every refusal that the header names is provoked once.
#include <sys/wait.h>

#include <fstream>

#include "host.h"

namespace {

using namespace host;

thole_family family_of(const char *name, thole_metric_kind kind) {
  auto family = sized<thole_family>();
  family.name = {name, strlen(name)};
  family.help = THOLE_STR("What it counts.");
  family.kind = kind;
  return family;
}

// A core whose metrics lie in `file`, or in memory.
struct counting {
  thole_core core{};
  thole_status status = sized<thole_status>();
  explicit counting(const std::string &file = "") {
    auto options = sized<thole_core_options>();
    options.metrics = str(file);
    EXPECT_EQ(root()->core->open(&options, &core, &status), THOLE_OK) << status.message;
  }
  ~counting() { root()->core->close(core, nullptr); }
  counting(const counting &) = delete;
  counting &operator=(const counting &) = delete;

  uint32_t define(const thole_family &family) {
    uint32_t number = ~0u;
    EXPECT_EQ(root()->metrics->define(core, &family, &number, &status), THOLE_OK) << status.message;
    return number;
  }
  thole_cell *bind(uint32_t family, const std::vector<thole_str> &values = {}) {
    const thole_list all = list(values);
    thole_cell *cell = nullptr;
    EXPECT_EQ(root()->metrics->bind(core, family, &all, &cell, &status), THOLE_OK) << status.message;
    return cell;
  }
  std::string refused(const thole_family &family) {
    uint32_t number = 77;
    EXPECT_NE(root()->metrics->define(core, &family, &number, &status), THOLE_OK);
    EXPECT_EQ(number, 77u);
    return status.reason;
  }
  std::string render() {
    lent memory;
    thole_str answer{};
    EXPECT_EQ(root()->metrics->render(core, &answer, &memory.room, &status), THOLE_OK) << status.message;
    return text(answer);
  }
};

TEST(metrics, each_kind_is_written_without_a_call_and_rendered) {
  counting c;
  const thole_str keys[] = {THOLE_STR("part")};
  auto counter = family_of("images", THOLE_METRIC_COUNTER);
  counter.labels = {keys, 1, sizeof keys[0]};
  auto gauge = family_of("loss", THOLE_METRIC_GAUGE);
  auto histogram = family_of("step_seconds", THOLE_METRIC_HISTOGRAM);
  histogram.unit = THOLE_STR("seconds");
  const double bounds[] = {0.5, 1};
  histogram.bounds = bounds;
  histogram.bound_count = 2;
  thole_counter_add(c.bind(c.define(counter), {THOLE_STR("train")}), 3);
  thole_gauge_set(c.bind(c.define(gauge)), -0.25);
  thole_cell *steps = c.bind(c.define(histogram));
  for (const double seconds : {0.5, 0.75, 9.0}) thole_histogram_observe(steps, seconds);
  const std::string page = c.render();
  for (const char *line :
       {"# TYPE images counter\n", "images_total{part=\"train\"} 3\n", "# TYPE loss gauge\n", "loss -0.25\n",
        "# UNIT step_seconds seconds\n", "step_seconds_bucket{le=\"0.5\"} 1\n", "step_seconds_bucket{le=\"1.0\"} 2\n",
        "step_seconds_bucket{le=\"+Inf\"} 3\n", "step_seconds_count 3\n", "step_seconds_sum 10.25\n"})
    EXPECT_NE(page.find(line), std::string::npos) << line << page;
  EXPECT_TRUE(page.ends_with("# EOF\n"));
}

TEST(metrics, the_same_family_and_values_are_the_same_number_and_cell) {
  counting c;
  const auto family = family_of("calls", THOLE_METRIC_COUNTER);
  const uint32_t number = c.define(family);
  EXPECT_EQ(c.define(family), number);
  EXPECT_EQ(c.bind(number), c.bind(number));
  EXPECT_EQ(c.refused(family_of("calls", THOLE_METRIC_GAUGE)), "MetricDiffers");
  EXPECT_EQ(c.status.code, THOLE_EXISTS);
}

TEST(metrics, what_no_reader_would_take_is_refused) {
  counting c;
  for (const char *name : {"", "1st", "with-dash", "calls_total", "\xC3\xA9t\xC3\xA9"})
    EXPECT_EQ(c.refused(family_of(name, THOLE_METRIC_COUNTER)), "MetricBad") << name;
  EXPECT_EQ(c.refused(family_of("x", 9)), "MetricBad");
  auto unit = family_of("step", THOLE_METRIC_GAUGE);
  unit.unit = THOLE_STR("seconds");
  EXPECT_EQ(c.refused(unit), "MetricBad");
  const double falling[] = {2, 1};
  auto histogram = family_of("h", THOLE_METRIC_HISTOGRAM);
  histogram.bounds = falling;
  histogram.bound_count = 2;
  EXPECT_EQ(c.refused(histogram), "MetricBad");
  auto bounded = family_of("g", THOLE_METRIC_GAUGE);
  bounded.bounds = falling;
  bounded.bound_count = 1;
  EXPECT_EQ(c.refused(bounded), "MetricBad");
  const thole_str twice[] = {THOLE_STR("a"), THOLE_STR("a")};
  auto labelled = family_of("l", THOLE_METRIC_GAUGE);
  labelled.labels = {twice, 2, sizeof twice[0]};
  EXPECT_EQ(c.refused(labelled), "MetricBad");
}

TEST(metrics, values_that_do_not_fit_the_keys_are_refused) {
  counting c;
  const uint32_t number = c.define(family_of("calls", THOLE_METRIC_COUNTER));
  const thole_str value = THOLE_STR("x");
  const thole_list one_too_many = one(value), none{};
  thole_cell *cell = nullptr;
  EXPECT_EQ(root()->metrics->bind(c.core, number, &one_too_many, &cell, &c.status), THOLE_INVALID);
  EXPECT_STREQ(c.status.reason, "MetricBad");
  EXPECT_EQ(root()->metrics->bind(c.core, number + 1, &none, &cell, &c.status), THOLE_INVALID);
  EXPECT_STREQ(c.status.reason, "MetricBad");
  EXPECT_EQ(cell, nullptr);
}

TEST(metrics, families_are_bounded) {
  counting c;
  for (int i = 0; i < 1024; ++i) c.define(family_of(("f" + std::to_string(i)).c_str(), THOLE_METRIC_COUNTER));
  EXPECT_EQ(c.refused(family_of("one_more", THOLE_METRIC_COUNTER)), "MetricsFull");
  EXPECT_EQ(c.status.code, THOLE_EXHAUSTED);
}

TEST(metrics, series_beyond_the_cap_count_as_overflow) {
  counting c;
  const thole_str key = THOLE_STR("user");
  auto family = family_of("calls", THOLE_METRIC_COUNTER);
  family.labels = one(key);
  family.max_series = 2;
  const uint32_t number = c.define(family);
  for (int i = 0; i < 5; ++i) {
    const std::string value = std::to_string(i);
    thole_counter_add(c.bind(number, {str(value)}), 1);
  }
  const std::string page = c.render();
  EXPECT_NE(page.find("calls_total{user=\"1\"} 1\n"), std::string::npos) << page;
  EXPECT_NE(page.find("calls_total{user=\"overflow\"} 3\n"), std::string::npos) << page;
}

// A killed process's counters stay, and its successor's are added to them.
TEST(metrics, a_killed_process_is_collected_and_its_successor_added) {
  const folder place;
  const std::string file = place.path + "/rank0.metrics";
  for (int life = 0; life < 2; ++life) {
    const pid_t child = fork();
    if (child == 0) {
      counting own(file);
      thole_counter_add(own.bind(own.define(family_of("steps", THOLE_METRIC_COUNTER))), 5);
      raise(SIGKILL);
    }
    int state = 0;
    ASSERT_EQ(waitpid(child, &state, 0), child);
    ASSERT_TRUE(WIFSIGNALED(state));
    if (life == 1) break;
  }
  counting reader;
  EXPECT_EQ(root()->metrics->collect(reader.core, str(file), &reader.status), THOLE_OK) << reader.status.message;
  EXPECT_NE(reader.render().find("steps_total 5\n"), std::string::npos);
  // The same file again says nothing new.
  EXPECT_EQ(root()->metrics->collect(reader.core, str(file), &reader.status), THOLE_OK);
  EXPECT_NE(reader.render().find("steps_total 5\n"), std::string::npos);
  {
    counting next(file);
    thole_counter_add(next.bind(next.define(family_of("steps", THOLE_METRIC_COUNTER))), 2);
    EXPECT_EQ(root()->metrics->collect(reader.core, str(file), &reader.status), THOLE_OK) << reader.status.message;
    EXPECT_NE(reader.render().find("steps_total 7\n"), std::string::npos) << reader.render();
  }
}

TEST(metrics, a_file_that_is_none_or_is_taken_is_refused) {
  const folder place;
  const std::string file = place.path + "/m";
  counting reader;
  EXPECT_EQ(root()->metrics->collect(reader.core, str(file), &reader.status), THOLE_NOT_FOUND);
  EXPECT_STREQ(reader.status.reason, "MetricsFileMissing");
  std::ofstream(file) << std::string(10000, 'x');
  EXPECT_EQ(root()->metrics->collect(reader.core, str(file), &reader.status), THOLE_DATA_LOSS);
  EXPECT_STREQ(reader.status.reason, "MetricsFileBad");
  auto options = sized<thole_core_options>();
  options.metrics = str(file);
  thole_core core{};
  EXPECT_EQ(root()->core->open(&options, &core, &reader.status), THOLE_DATA_LOSS);
  EXPECT_STREQ(reader.status.reason, "MetricsFileBad");
  std::filesystem::remove(file);
  const counting first(file);
  EXPECT_EQ(root()->core->open(&options, &core, &reader.status), THOLE_EXISTS);
  EXPECT_STREQ(reader.status.reason, "MetricsFileTaken");
}

}  // namespace
