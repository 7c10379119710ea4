#include "metrics/text.h"

#include <fmt/format.h>

#include <cmath>

namespace thole::metrics {
namespace {

void append_escaped(std::string &out, std::string_view text) {
  for (const char c : text) {
    if (c == '\\') out += "\\\\";
    else if (c == '"') out += "\\\"";
    else if (c == '\n') out += "\\n";
    else out += c;
  }
}

// a="1",b="2"
std::string labels_text(const definition &d, const label_values &values) {
  std::string out;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    out += d.labels[i];
    out += "=\"";
    append_escaped(out, values[i]);
    out += '"';
  }
  return out;
}

void append_sample(std::string &out, const definition &d, std::string_view suffix, std::string_view labels,
                   std::string_view value) {
  out += d.name;
  out += suffix;
  if (!labels.empty()) {
    out += '{';
    out += labels;
    out += '}';
  }
  out += ' ';
  out += value;
  out += '\n';
}

// The count is the sum of the buckets and not a number of its own: a writer that was killed between the two additions,
// or is between them now, must not make them disagree.
void append_histogram(std::string &out, const definition &d, const std::string &labels, const sample &s) {
  uint64_t count = 0;
  for (std::size_t i = 0; i <= d.bounds.size(); ++i) {
    count += i < s.buckets.size() ? s.buckets[i] : 0;
    const std::string le = i < d.bounds.size() ? bound_text(d.bounds[i]) : "+Inf";
    append_sample(out, d, "_bucket", fmt::format("{}{}le=\"{}\"", labels, labels.empty() ? "" : ",", le),
                  fmt::format("{}", count));
  }
  // A sum that can fall is no counter; OpenMetrics has neither sum nor count then.
  if ((!d.bounds.empty() && d.bounds[0] < 0) || s.value < 0) return;
  append_sample(out, d, "_count", labels, fmt::format("{}", count));
  append_sample(out, d, "_sum", labels, number_text(s.value));
}

void append_family(std::string &out, const definition &d, const std::map<label_values, sample> &series) {
  const std::string_view type = d.what == kind::counter ? "counter" : d.what == kind::gauge ? "gauge" : "histogram";
  out += fmt::format("# TYPE {} {}\n", d.name, type);
  if (!d.unit.empty()) out += fmt::format("# UNIT {} {}\n", d.name, d.unit);
  if (!d.help.empty()) {
    out += fmt::format("# HELP {} ", d.name);
    append_escaped(out, d.help);
    out += '\n';
  }
  for (const auto &[values, said] : series) {
    const std::string labels = labels_text(d, values);
    if (d.what == kind::histogram) append_histogram(out, d, labels, said);
    else append_sample(out, d, d.what == kind::counter ? "_total" : "", labels, number_text(said.value));
  }
}

}  // namespace

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value == 0 ? 0.0 : value);
}

// As Go's strconv writes floats: from 1e+06 on with an exponent of two digits at least, whole numbers with ".0".
std::string bound_text(double bound) {
  std::string plain = number_text(bound);
  if (std::abs(bound) < 1e6 || plain.find('e') != std::string::npos)
    return plain.find_first_of(".e") == std::string::npos ? plain + ".0" : plain;
  const std::string sign = bound < 0 ? "-" : "";
  std::string digits = plain.substr(sign.size());
  const std::size_t point = std::min(digits.find('.'), digits.size());
  const std::size_t exponent = point - 1;
  if (point < digits.size()) digits.erase(point, 1);
  digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.size() > 1) digits.insert(1, ".");
  return fmt::format("{}{}e+{:02}", sign, digits, exponent);
}

std::string to_text(const std::map<std::string, family_sum> &families) {
  std::string out;
  for (const auto &[name, family] : families)
    if (!family.series.empty()) append_family(out, *family.what, family.series);
  out += "# EOF\n";
  return out;
}

}  // namespace thole::metrics
