#include "base/text.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <charconv>
#include <cstring>

#include "base/clock.h"

namespace thole::local {

std::string utc_text(int64_t wall) {
  const std::time_t seconds = wall / second_ns;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text, n};
}

thole_id random_id() {
  thole_id id{};
  while (::getrandom(&id, sizeof id, 0) != static_cast<ssize_t>(sizeof id)) {
  }
  id.hi = (id.hi & ~uint64_t{0xF000}) | 0x4000;                // version 4
  id.lo = (id.lo & ~(uint64_t{3} << 62)) | uint64_t{2} << 62;  // variant 1
  return id;
}

std::string id_text(thole_id id) {
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", id.hi >> 32, id.hi >> 16 & 0xFFFF, id.hi & 0xFFFF,
                     id.lo >> 48, id.lo & 0xFFFFFFFFFFFF);
}

std::optional<thole_id> parse_id(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  uint64_t half[2] = {0, 0};
  int digits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return std::nullopt;
      continue;
    }
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    uint64_t &h = half[digits++ / 16];
    h = h << 4 | static_cast<uint64_t>(digit);
  }
  return thole_id{half[0], half[1]};
}

namespace {
uint64_t fnv(std::string_view text, uint64_t h) noexcept {
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}
}  // namespace

thole_id hashed_id(std::string_view text) noexcept {
  thole_id id{fnv(text, 0xcbf29ce484222325), fnv(text, 0x84222325cbf29ce4)};
  id.hi |= 1;  // never "none"
  return id;
}

std::string short_hash(std::string_view text) {
  return fmt::format("{:012x}", hashed_id(text).lo & 0xFFFFFFFFFFFF);
}

std::string bytes_text(uint64_t bytes) {
  static constexpr const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double amount = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (amount >= 1024 && unit + 1 < std::size(units)) amount /= 1024, ++unit;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", amount, units[unit]);
}

std::string duration_text(int64_t ns) {
  if (ns < second_ns) return fmt::format("{} ms", ns / millisecond_ns);
  if (ns < 60 * second_ns) return fmt::format("{:.1f} s", in_seconds(ns));
  const int64_t s = ns / second_ns;
  if (s < 3600) return fmt::format("{} m {} s", s / 60, s % 60);
  return fmt::format("{} h {} m", s / 3600, s % 3600 / 60);
}

std::string signal_text(int signal) {
  const char *name = ::sigabbrev_np(signal);
  return name == nullptr ? fmt::format("signal {}", signal) : fmt::format("signal {} (SIG{})", signal, name);
}

std::string utf8_or_replaced(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const std::size_t n = c < 0x80                ? 1
                          : c >= 0xC2 && c < 0xE0 ? 2
                          : c >= 0xE0 && c < 0xF0 ? 3
                          : c >= 0xF0 && c < 0xF5 ? 4
                                                  : 0;
    bool good = n != 0 && i + n <= text.size();
    for (std::size_t k = 1; good && k < n; ++k) good = (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80;
    if (good && n >= 3) {  // no over-long forms, no surrogates, nothing above U+10FFFF
      const auto d = static_cast<unsigned char>(text[i + 1]);
      good = !(c == 0xE0 && d < 0xA0) && !(c == 0xED && d >= 0xA0) && !(c == 0xF0 && d < 0x90) &&
             !(c == 0xF4 && d >= 0x90);
    }
    if (!good) {
      out += "\xEF\xBF\xBD";
      ++i;
      continue;
    }
    out.append(text.substr(i, n));
    i += n;
  }
  return out;
}

std::string join(const std::vector<std::string> &parts, std::string_view between) {
  return fmt::format("{}", fmt::join(parts, between));
}

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t i = text.find(at);
    parts.emplace_back(text.substr(0, i));
    if (i == std::string_view::npos) return parts;
    text.remove_prefix(i + 1);
  }
}

std::optional<uint64_t> parse_u64(std::string_view text) noexcept {
  uint64_t n = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (bad != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return n;
}

}  // namespace thole::local
