// base/id.h: 128-bit names of durable things.
#pragma once

#include <thole/base.h>

#include <array>
#include <compare>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thole {

struct id128 {
  uint64_t hi = 0;
  uint64_t lo = 0;
  friend auto operator<=>(const id128 &, const id128 &) = default;
  explicit operator bool() const noexcept { return hi != 0 || lo != 0; }
};

inline id128 from_c(thole_id id) noexcept {
  return {id.hi, id.lo};
}
inline thole_id to_c(id128 id) noexcept {
  return {id.hi, id.lo};
}

// 16 bytes, big-endian, as a UUID is written.
std::array<unsigned char, 16> to_bytes(id128 id) noexcept;
id128 from_bytes(const unsigned char *bytes) noexcept;

// "0190a1b2-....": 36 characters, lower case. parse takes exactly that form.
std::string to_text(id128 id);
std::optional<id128> parse_id(std::string_view text) noexcept;

// From getrandom(2), never from a generator in this process: a clone or a restored snapshot must not repeat one.
result<> random_bytes(void *to, std::size_t size) noexcept;
result<id128> random_id() noexcept;  // version 4

// A name that is the same wherever it is computed: the first 16 bytes of SHA-256 over length-prefixed parts (version
// 8).
id128 hashed_id(std::initializer_list<std::string_view> parts);

}  // namespace thole
