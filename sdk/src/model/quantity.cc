#include "model/quantity.h"

#include <fmt/core.h>

#include <array>
#include <charconv>

namespace thole::model {
namespace {

struct unit {
  std::string_view name;
  int64_t factor;
};
constexpr std::array<unit, 10> memory_units = {{{"Ki", int64_t{1} << 10},
                                                {"Mi", int64_t{1} << 20},
                                                {"Gi", int64_t{1} << 30},
                                                {"Ti", int64_t{1} << 40},
                                                {"Pi", int64_t{1} << 50},
                                                {"k", 1000},
                                                {"M", 1000'000},
                                                {"G", 1000'000'000},
                                                {"T", 1000'000'000'000},
                                                {"P", 1000'000'000'000'000}}};
constexpr std::array<unit, 5> time_units = {
    {{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};

constexpr std::string_view memory_form = "write a whole number and a unit, such as 512Mi or 10Gi";
constexpr std::string_view time_form = "write a whole number and a unit, such as 30s, 10m or 2h";

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}
std::string_view leading_digits(std::string_view s) noexcept {
  std::size_t n = 0;
  while (n < s.size() && is_digit(s[n])) ++n;
  return s.substr(0, n);
}
// Nothing if it does not fit.
std::optional<int64_t> whole(std::string_view digits) noexcept {
  int64_t value = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || problem != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}
quantity refuse(std::string sentence) {
  return {std::nullopt, std::move(sentence)};
}
quantity too_large(std::string_view text) {
  return refuse(fmt::format("`{}` is larger than anything there is", text.substr(0, 40)));
}

// The unit that a person probably meant with `word`: 10GB, 10gb and 10gib are 10Gi, unless they say otherwise.
std::string_view meant(std::string_view word) noexcept {
  if (word.empty()) return "Gi";
  switch (word[0]) {
    case 'k':
    case 'K':
      return "Ki";
    case 'm':
    case 'M':
      return "Mi";
    case 't':
    case 'T':
      return "Ti";
    case 'p':
    case 'P':
      return "Pi";
    default:
      return "Gi";
  }
}
std::optional<int64_t> factor_of(std::string_view name) noexcept {
  for (const unit &u : memory_units)
    if (u.name == name) return u.factor;
  return std::nullopt;
}

// "1.5Gi" in words that are exact, if there are such.
std::string without_fraction(std::string_view text, std::string_view digits, std::string_view rest) {
  const std::string_view fraction = leading_digits(rest.substr(1));
  const auto factor = factor_of(rest.substr(1 + fraction.size()));
  const auto head = whole(digits);
  const auto tail = whole(fraction);
  if (factor && head && tail && fraction.size() <= 3 && *factor >= mebibyte) {
    int64_t scale = 1;
    for (std::size_t i = 0; i < fraction.size(); ++i) scale *= 10;
    const int64_t small = *factor % 1024 == 0 ? 1024 : 1000;
    if (*head < 1'000'000'000 && (*head * scale + *tail) * small % scale == 0)
      return fmt::format("`{}` is not a whole number: write {}{}", text, (*head * scale + *tail) * small / scale,
                         small == 1024 ? (*factor == int64_t{1} << 30   ? "Mi"
                                          : *factor == int64_t{1} << 20 ? "Ki"
                                          : *factor == int64_t{1} << 40 ? "Gi"
                                                                        : "Ti")
                                       : (*factor == 1000'000'000       ? "M"
                                          : *factor == 1000'000         ? "k"
                                          : *factor == 1000'000'000'000 ? "G"
                                                                        : "T"));
  }
  return fmt::format("`{}` is not a whole number: {}", text.substr(0, 40), memory_form);
}

// A decimal with at most three places, in thousandths.
std::optional<int64_t> thousandths(std::string_view text) noexcept {
  const std::string_view digits = leading_digits(text);
  const auto head = whole(digits);
  if (!head || *head > 1'000'000'000) return std::nullopt;
  std::string_view rest = text.substr(digits.size());
  if (rest.empty()) return *head * 1000;
  if (rest[0] != '.') return std::nullopt;
  rest.remove_prefix(1);
  if (rest.empty() || rest.size() > 3 || leading_digits(rest).size() != rest.size()) return std::nullopt;
  int64_t tail = *whole(rest);
  for (std::size_t i = rest.size(); i < 3; ++i) tail *= 10;
  return *head * 1000 + tail;
}

}  // namespace

quantity parse_memory(std::string_view text) {
  if (text.empty()) return refuse(std::string(memory_form));
  if (text[0] == '-') return refuse(fmt::format("`{}` is negative: {}", text.substr(0, 40), memory_form));
  const std::string_view digits = leading_digits(text);
  if (digits.empty()) return refuse(fmt::format("`{}` is no size: {}", text.substr(0, 40), memory_form));
  const std::string_view rest = text.substr(digits.size());
  if (rest.empty() && whole(digits))
    return refuse(fmt::format("`{}` has no unit: write {}Mi or {}Gi", text, digits, digits));
  if (!rest.empty() && rest[0] == '.') return refuse(without_fraction(text, digits, rest));
  const auto factor = factor_of(rest);
  if (!factor && digits.size() < 19)
    return refuse(fmt::format("`{}` has the unit '{}', which is not known: write {}{}", text.substr(0, 40),
                              rest.substr(0, 16), digits, meant(rest)));
  const auto value = whole(digits);
  if (!value || !factor || *value > INT64_MAX / *factor) return too_large(text);
  return {*value * *factor, {}};
}

quantity parse_duration(std::string_view text) {
  if (text.empty()) return refuse(std::string(time_form));
  if (text[0] == '-') return refuse(fmt::format("`{}` is negative: {}", text.substr(0, 40), time_form));
  int64_t sum = 0;
  std::size_t next_unit = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view digits = leading_digits(rest);
    if (digits.empty()) return refuse(fmt::format("`{}` is no time: {}", text.substr(0, 40), time_form));
    rest.remove_prefix(digits.size());
    if (rest.empty())
      return refuse(fmt::format("`{}` has no unit: write {}s or {}m", text.substr(0, 40), digits, digits));
    if (rest[0] == '.') return refuse(fmt::format("`{}` is not a whole number: {}", text.substr(0, 40), time_form));
    std::size_t end = 0;
    while (end < rest.size() && !is_digit(rest[end])) ++end;
    std::size_t u = next_unit;
    while (u < time_units.size() && time_units[u].name != rest.substr(0, end)) ++u;
    if (u == time_units.size())
      return refuse(
          fmt::format("`{}` has a unit that is not known, or not in falling order: {}", text.substr(0, 40), time_form));
    const auto value = whole(digits);
    if (!value || *value > (INT64_MAX - sum) / time_units[u].factor) return too_large(text);
    sum += *value * time_units[u].factor;
    next_unit = u + 1;
    rest.remove_prefix(end);
  }
  return {sum, {}};
}

quantity parse_cpu(std::string_view text) {
  if (text.size() > 1 && text.back() == 'm')
    if (const std::string_view digits = text.substr(0, text.size() - 1); leading_digits(digits).size() == digits.size())
      if (const auto value = whole(digits)) return {*value, {}};
  if (const auto value = thousandths(text)) return {*value, {}};
  return refuse(fmt::format("`{}` is no number of cores: write for example 2, 0.5 or 500m", text.substr(0, 40)));
}

quantity parse_share(std::string_view text) {
  if (const auto value = thousandths(text)) return {*value, {}};
  if (text.size() > 1 && text.back() == '%')
    if (const auto percent = thousandths(text.substr(0, text.size() - 1)); percent && *percent % 100 == 0)
      return refuse(fmt::format("`{}` is a percentage: write {}", text, share_text(*percent / 100)));
  return refuse(
      fmt::format("`{}` is no share of a GPU's compute: write a fraction with at most three places, such as 0.25",
                  text.substr(0, 40)));
}

std::string memory_text(int64_t bytes) {
  std::string best = fmt::format("{}", bytes);
  bool found = false;
  for (const unit &u : memory_units) {
    if (bytes % u.factor != 0 || bytes == 0) continue;
    std::string text = fmt::format("{}{}", bytes / u.factor, u.name);
    if (!found || text.size() < best.size()) best = std::move(text);
    found = true;
  }
  return bytes == 0 ? "0Mi" : best;
}
std::string duration_text(int64_t milliseconds) {
  if (milliseconds == 0) return "0s";
  for (const unit &u : time_units)
    if (milliseconds % u.factor == 0) return fmt::format("{}{}", milliseconds / u.factor, u.name);
  return fmt::format("{}ms", milliseconds);
}
std::string cpu_text(int64_t milli) {
  return milli % 1000 == 0 ? fmt::format("{}", milli / 1000) : fmt::format("{}m", milli);
}
std::string share_text(int64_t milli) {
  if (milli % 1000 == 0) return fmt::format("{}", milli / 1000);
  std::string text = fmt::format("{}.{:03}", milli / 1000, milli % 1000);
  while (text.back() == '0') text.pop_back();
  return text;
}

}  // namespace thole::model
