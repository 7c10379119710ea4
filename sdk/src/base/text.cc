#include "base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace thole {

bool is_utf8(std::string_view text) noexcept {
  const auto *p = reinterpret_cast<const unsigned char *>(text.data());
  const auto *end = p + text.size();
  while (p < end) {
    const unsigned char lead = *p++;
    if (lead < 0x80) continue;
    int more = 0;
    uint32_t value = 0;
    uint32_t least = 0;
    if ((lead & 0xE0) == 0xC0) more = 1, value = lead & 0x1Fu, least = 0x80;
    else if ((lead & 0xF0) == 0xE0) more = 2, value = lead & 0x0Fu, least = 0x800;
    else if ((lead & 0xF8) == 0xF0) more = 3, value = lead & 0x07u, least = 0x10000;
    else return false;
    for (; more > 0; --more) {
      if (p == end || (*p & 0xC0) != 0x80) return false;
      value = value << 6 | (*p++ & 0x3Fu);
    }
    if (value < least || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return false;
  }
  return true;
}

namespace {

// Optimal string alignment distance; words are short.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t same = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + same});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

}  // namespace

std::string_view nearest(std::string_view word, std::span<const std::string_view> words) {
  std::string_view best;
  std::size_t least = 3;
  if (word.size() > 64) return best;
  for (std::string_view candidate : words) {
    const std::size_t d = distance(word, candidate);
    if (d < least && d < candidate.size()) least = d, best = candidate;
  }
  return best;
}

std::optional<uint64_t> parse_u64(std::string_view text) noexcept {
  uint64_t value = 0;
  const char *end = text.data() + text.size();
  if (text.empty() || text[0] == '+') return std::nullopt;
  auto [stop, problem] = std::from_chars(text.data(), end, value);
  if (problem != std::errc{} || stop != end) return std::nullopt;
  return value;
}

std::string bytes_text(uint64_t bytes) {
  static constexpr std::array<const char *, 7> units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < units.size()) value /= 1024, ++unit;
  return fmt::format("{:.1f} {}", value, units[unit]);
}

std::string mib_text(uint64_t mib) {
  return mib > UINT64_MAX >> 20 ? fmt::format("{} MiB", mib) : bytes_text(mib << 20);
}

std::string hex(std::span<const unsigned char> bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (unsigned char b : bytes) {
    out.push_back(digits[b >> 4]);
    out.push_back(digits[b & 15]);
  }
  return out;
}

}  // namespace thole
