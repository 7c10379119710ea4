// checkpoint/octets.h: little-endian integers in byte arrays.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace thole::checkpoint {

using octets = std::span<const unsigned char>;
using octets_out = std::span<unsigned char>;
using digest32 = std::array<unsigned char, 32>;

template <class T>
void put_le(unsigned char *to, T value) noexcept {
  for (std::size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<unsigned char>(value >> (8 * i));
}

template <class T>
T get_le(const unsigned char *from) noexcept {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(T{from[i]} << (8 * i)));
  return value;
}

inline octets octets_of(std::string_view s) noexcept {
  return {reinterpret_cast<const unsigned char *>(s.data()), s.size()};
}
inline std::string_view text_of(octets b) noexcept {
  return {reinterpret_cast<const char *>(b.data()), b.size()};
}

inline bool all_zero(octets b) noexcept {
  unsigned char any = 0;
  for (unsigned char c : b) any = static_cast<unsigned char>(any | c);
  return any == 0;
}

}  // namespace thole::checkpoint
