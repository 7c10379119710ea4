// base/text.h: UTF-8, numbers and near words.
#pragma once

#include <thole/base.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace thole {

inline std::string_view view(thole_str s) noexcept {
  return s.len == 0 ? std::string_view{} : std::string_view{s.data, s.len};
}
inline thole_str borrow(std::string_view s) noexcept {
  return {s.data(), s.size()};
}

// RFC 3629: shortest forms only, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text) noexcept;

// The word that a person probably meant: at most two edits away (Damerau-Levenshtein, restricted), else empty. Ties go
// to the first.
std::string_view nearest(std::string_view word, std::span<const std::string_view> words);

// Exactly a decimal number, nothing around it.
std::optional<uint64_t> parse_u64(std::string_view text) noexcept;

// "10.0 GiB", for people.
std::string bytes_text(uint64_t bytes);
std::string mib_text(uint64_t mib);

std::string hex(std::span<const unsigned char> bytes);
inline std::span<const unsigned char> bytes_of(std::string_view s) noexcept {
  return {reinterpret_cast<const unsigned char *>(s.data()), s.size()};
}

}  // namespace thole
