// metrics/definition.h: what a family is, and which names and values OpenMetrics can carry.
#pragma once

#include <thole/draft/metrics.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thole::metrics {

enum class kind : int32_t {
  counter = THOLE_METRIC_COUNTER,
  gauge = THOLE_METRIC_GAUGE,
  histogram = THOLE_METRIC_HISTOGRAM
};

struct definition {
  std::string name;
  std::string help;
  std::string unit;
  kind what = kind::counter;
  uint32_t max_series = 0;
  std::vector<std::string> labels;
  std::vector<double> bounds;

  std::size_t buckets() const noexcept { return what == kind::histogram ? bounds.size() + 1 : 0; }
};

constexpr uint32_t default_series = 1000;
constexpr uint32_t most_series = 1'000'000;
constexpr std::size_t most_families = 1024;  // of a core, and of a file
constexpr std::size_t most_labels = 16;
constexpr std::size_t most_bounds = 64;
constexpr std::size_t most_name = 200;   // bytes, of a family, label or unit
constexpr std::size_t most_help = 1024;  // bytes
constexpr std::size_t most_value = 512;  // bytes, of a label
constexpr std::string_view overflow = "overflow";

// Fills in max_series, and refuses what the text form cannot carry (MetricBad).
result<> check(definition &d);

// Label values, in the order of the keys.
result<> check_values(const definition &d, std::span<const std::string_view> values);

// Whether two definitions mean the same series; help and cap may differ.
bool agree(const definition &a, const definition &b) noexcept;

}  // namespace thole::metrics
