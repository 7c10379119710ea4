#include "metrics/definition.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"

namespace thole::metrics {
namespace {

bool is_letter(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

bool is_name(std::string_view s) noexcept {
  return !s.empty() && s.size() <= most_name && is_letter(s[0]) &&
         std::all_of(s.begin(), s.end(), [](char c) { return is_letter(c) || is_digit(c); });
}

// What the text form adds to a family's name. A family that ended so could clash with another one's samples.
constexpr std::array<std::string_view, 8> suffixes = {"_total", "_created", "_bucket", "_count",
                                                      "_sum",   "_gcount",  "_gsum",   "_info"};

result<> check_name(const definition &d) {
  if (!is_name(d.name))
    return fail(reason::MetricBad, "the name \"{}\" is not [a-zA-Z_][a-zA-Z0-9_]* of at most {} bytes", d.name,
                most_name);
  for (const std::string_view suffix : suffixes)
    if (d.name.ends_with(suffix) && !(suffix == "_info" && d.what == kind::gauge))
      return fail(reason::MetricBad, "the name {} ends in {}, which the text form adds: leave it out", d.name, suffix);
  if (d.help.size() > most_help || !is_utf8(d.help) || d.help.find('\0') != std::string::npos)
    return fail(reason::MetricBad, "the help of {} is not UTF-8 without NUL of at most {} bytes", d.name, most_help);
  if (d.unit.empty()) return {};
  if (!std::all_of(d.unit.begin(), d.unit.end(), [](char c) { return is_letter(c) || is_digit(c); }) ||
      d.unit.size() > most_name)
    return fail(reason::MetricBad, "the unit \"{}\" of {} is not [a-zA-Z0-9_]+", d.unit, d.name);
  if (!d.name.ends_with("_" + d.unit))
    return fail(reason::MetricBad, "the name {} does not end in its unit: call it {}_{}", d.name, d.name, d.unit);
  return {};
}

result<> check_labels(const definition &d) {
  if (d.labels.size() > most_labels)
    return fail(reason::MetricBad, "{} has {} labels; {} are the most", d.name, d.labels.size(), most_labels);
  for (std::size_t i = 0; i < d.labels.size(); ++i) {
    const std::string &label = d.labels[i];
    if (!is_name(label) || label.starts_with("__"))
      return fail(reason::MetricBad, "the label \"{}\" of {} is not [a-zA-Z_][a-zA-Z0-9_]* without a leading __", label,
                  d.name);
    if (label == "le" && d.what == kind::histogram)
      return fail(reason::MetricBad, "the histogram {} has a label le, which is that of its buckets", d.name);
    if (std::find(d.labels.begin(), d.labels.begin() + static_cast<std::ptrdiff_t>(i), label) !=
        d.labels.begin() + static_cast<std::ptrdiff_t>(i))
      return fail(reason::MetricBad, "{} has the label {} twice", d.name, label);
  }
  return {};
}

result<> check_bounds(const definition &d) {
  if (d.what != kind::histogram && !d.bounds.empty())
    return fail(reason::MetricBad, "{} has bounds and is no histogram", d.name);
  if (d.bounds.size() > most_bounds)
    return fail(reason::MetricBad, "{} has {} bounds; {} are the most", d.name, d.bounds.size(), most_bounds);
  for (std::size_t i = 0; i < d.bounds.size(); ++i)
    if (!std::isfinite(d.bounds[i]) || (i > 0 && !(d.bounds[i - 1] < d.bounds[i])))
      return fail(reason::MetricBad, "bound {} of {} is {}: they are finite and rise", i, d.name, d.bounds[i]);
  return {};
}

}  // namespace

result<> check(definition &d) {
  if (d.what != kind::counter && d.what != kind::gauge && d.what != kind::histogram)
    return fail(reason::MetricBad, "{} has the unknown kind {}", d.name, static_cast<int32_t>(d.what));
  THOLE_TRY(check_name(d));
  THOLE_TRY(check_labels(d));
  THOLE_TRY(check_bounds(d));
  if (d.max_series == 0) d.max_series = default_series;
  if (d.max_series > most_series)
    return fail(reason::MetricBad, "{} asks for {} series; {} are the most", d.name, d.max_series, most_series);
  return {};
}

result<> check_values(const definition &d, std::span<const std::string_view> values) {
  if (values.size() != d.labels.size())
    return fail(reason::MetricBad, "{} has {} labels, not {}", d.name, d.labels.size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].size() > most_value || !is_utf8(values[i]) || values[i].find('\0') != std::string_view::npos)
      return fail(reason::MetricBad, "the value of {}.{} is not UTF-8 without NUL of at most {} bytes", d.name,
                  d.labels[i], most_value);
  return {};
}

bool agree(const definition &a, const definition &b) noexcept {
  return a.name == b.name && a.unit == b.unit && a.what == b.what && a.labels == b.labels && a.bounds == b.bounds;
}

}  // namespace thole::metrics
