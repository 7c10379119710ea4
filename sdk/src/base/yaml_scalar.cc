#include "base/yaml_scalar.h"

#include <algorithm>
#include <array>

namespace thole::yaml {
namespace {

constexpr bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}
std::size_t digits(std::string_view s, std::size_t from) noexcept {
  std::size_t i = from;
  while (i < s.size() && is_digit(s[i])) ++i;
  return i - from;
}

// Words in which some reader sees a boolean, null, a float or a merge key.
bool is_word_of_yaml_1_1(std::string_view s) noexcept {
  static constexpr std::array<std::string_view, 12> words = {"y",    "n",     "yes",  "no",   "on",   "off",
                                                             "true", "false", "null", ".inf", ".nan", "~"};
  if (s == "<<" || s == "=") return true;
  if (s.size() > 1 && (s[0] == '+' || s[0] == '-') && (s[1] == '.')) s.remove_prefix(1);
  if (s.size() > 5) return false;
  char lower[5];
  std::transform(s.begin(), s.end(), lower,
                 [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); });
  return std::find(words.begin(), words.end(), std::string_view(lower, s.size())) != words.end();
}

// YYYY-M-D at the start: PyYAML makes a date of it.
bool looks_like_date(std::string_view s) noexcept {
  if (digits(s, 0) != 4 || s.size() < 8 || s[4] != '-') return false;
  const std::size_t month = digits(s, 5);
  if (month < 1 || month > 2 || s.size() <= 5 + month || s[5 + month] != '-') return false;
  const std::size_t day = digits(s, 6 + month);
  if (day < 1 || day > 2) return false;
  const std::size_t end = 6 + month + day;
  return end == s.size() || s[end] == 'T' || s[end] == 't' || s[end] == ' ' || s[end] == '\t';
}

// Anything that only a number of YAML 1.1 or of the core schema could be: 0x1F, 0o17, 0b11, 017, 1_000, 1:30, +1,
// .5, 1.
bool looks_like_other_number(std::string_view s) noexcept {
  if (!s.empty() && (s[0] == '+' || s[0] == '-')) s.remove_prefix(1);
  if (s.empty()) return false;
  const bool starts = is_digit(s[0]) || (s[0] == '.' && s.size() > 1 && is_digit(s[1]));
  if (!starts) return false;
  if (s.size() > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
    return s.find_first_not_of("0123456789abcdefABCDEF_", 2) == s.npos;
  if (s.size() > 2 && s[0] == '0' && (s[1] == 'o' || s[1] == 'O' || s[1] == 'b' || s[1] == 'B'))
    return s.find_first_not_of("01234567_", 2) == s.npos;
  const std::size_t exponent = s.find_first_of("eE");
  if (exponent != s.npos) {
    std::size_t from = exponent + 1;
    if (from < s.size() && (s[from] == '+' || s[from] == '-')) ++from;
    if (from == s.size() || digits(s, from) != s.size() - from) return false;
    s = s.substr(0, exponent);
  }
  return s.find_first_not_of("0123456789_.:") == s.npos;
}

}  // namespace

meaning of_plain(std::string_view s) noexcept {
  if (s.empty() || s == "null") return {kind::null, false};
  if (s == "true" || s == "false") return {kind::boolean, false};
  std::size_t i = s[0] == '-' ? 1 : 0;
  const std::size_t whole = digits(s, i);
  if (whole > 0 && (whole == 1 || s[i] != '0')) {
    i += whole;
    if (i == s.size()) return {kind::integer, false};
    if (s[i] == '.') {
      const std::size_t fraction = digits(s, i + 1);
      if (fraction > 0 && i + 1 + fraction == s.size()) return {kind::number, false};
      i += fraction > 0 ? 1 + fraction : 0;
    }
    // An exponent is JSON, but PyYAML wants a point and a sign in it.
    if (i < s.size() && (s[i] == 'e' || s[i] == 'E') && looks_like_other_number(s)) return {kind::number, true};
  }
  return {kind::string, is_word_of_yaml_1_1(s) || looks_like_date(s) || looks_like_other_number(s)};
}

}  // namespace thole::yaml
