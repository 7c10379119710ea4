// base/clock.h: the clocks. Decisions use `now`, which goes on while the machine sleeps and is never set back.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>

namespace thole::local {

inline int64_t clock_ns(clockid_t id) noexcept {
  timespec t{};
  ::clock_gettime(id, &t);
  return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}
inline int64_t now_ns() noexcept {
  return clock_ns(CLOCK_BOOTTIME);
}
// For people only.
inline int64_t wall_ns() noexcept {
  return clock_ns(CLOCK_REALTIME);
}

constexpr int64_t second_ns = 1'000'000'000;
constexpr int64_t millisecond_ns = 1'000'000;
constexpr double in_seconds(int64_t ns) noexcept {
  return static_cast<double>(ns) / 1e9;
}

// "2026-11-23T18:20:55Z"
std::string utc_text(int64_t wall);

}  // namespace thole::local
