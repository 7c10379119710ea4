// capi/args.h: structs of other sizes than ours, in both directions.
#pragma once

#include <thole/base.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "base/status.h"
#include "base/text.h"

namespace thole {

// What a caller's sized struct says: the fields that it has, and zero for those that it does not know yet.
template <class T>
result<T> take(const T *given, std::string_view what) {
  static_assert(std::is_trivially_copyable_v<T> && offsetof(T, struct_size) == 0);
  if (given == nullptr) return fail(reason::ArgumentMissing, "{} is NULL", what);
  const uint64_t size = given->struct_size;
  if (size < sizeof(uint64_t))
    return fail(reason::ArgumentMissing, "{}.struct_size is {}: set it to sizeof", what, size);
  // A size that ends inside a field would hand on half a pointer.
  if (size > 65536 || size % 8 != 0)
    return fail(reason::ArgumentBad, "{}.struct_size is {}: set it to sizeof", what, size);
  T ours{};
  std::memcpy(&ours, given, std::min<uint64_t>(size, sizeof(T)));
  return ours;
}

// Fills a caller's sized struct as far as it goes. struct_size stays the caller's.
template <class T>
result<> give(T *to, const T &ours, std::string_view what) {
  THOLE_TRY(take(static_cast<const T *>(to), what));
  T full = ours;
  full.struct_size = to->struct_size;
  std::memcpy(static_cast<void *>(to), &full, std::min<uint64_t>(to->struct_size, sizeof(T)));
  return {};
}

// Whether an out-struct that may be NULL can be given, before anything is done whose answer would be lost.
template <class T>
result<> check_out(const T *to, std::string_view what) {
  if (to != nullptr) THOLE_TRY(take(to, what));
  return {};
}

// Room for later versions is zero, so that they may give it a meaning.
inline result<> check_reserved(uint32_t reserved, std::string_view what) {
  if (reserved == 0) return {};
  return fail(reason::ArgumentBad, "{}.reserved is {}: set it to 0", what, reserved);
}

// Whether `list` can hold elements of at least `least` bytes, at most `most` of them.
inline result<> check_list(const thole_list &list, uint64_t least, uint64_t most, std::string_view what,
                           uint64_t align = 8) {
  if (list.count == 0) return {};
  if (list.data == nullptr) return fail(reason::ArgumentBad, "{}.data is NULL with count {}", what, list.count);
  if (list.count > most) return fail(reason::OverBound, "{} has {} elements; {} are the most", what, list.count, most);
  if (reinterpret_cast<uintptr_t>(list.data) % align != 0)
    return fail(reason::ArgumentBad, "{}.data is not aligned to {} bytes", what, align);
  if (list.stride < least || list.stride % align != 0 || list.stride > 65536)
    return fail(reason::ArgumentBad, "{}.stride is {}", what, list.stride);
  return {};
}

// Element i of a list of sized structs. check_list(list, 8, ...) has passed.
template <class T>
result<T> take_at(const thole_list &list, uint64_t i, std::string_view what) {
  const auto *element = THOLE_AT(list, T, i);
  if (element->struct_size > list.stride)
    return fail(reason::ArgumentBad, "{}[{}].struct_size is {}, beyond the stride {}", what, i, element->struct_size,
                list.stride);
  return take(element, what);
}

// Text that came from outside: present, UTF-8, not too long, without NUL.
inline result<std::string_view> take_text(thole_str s, uint64_t most, std::string_view what) {
  if (s.len == 0) return std::string_view{};
  if (s.data == nullptr) return fail(reason::ArgumentMissing, "{}.data is NULL with length {}", what, s.len);
  if (s.len > most) return fail(reason::OverBound, "{} has {} bytes; {} are the most", what, s.len, most);
  const std::string_view text(s.data, s.len);
  if (!is_utf8(text)) return fail(reason::TextNotUtf8, "{} is not UTF-8", what);
  if (text.find('\0') != std::string_view::npos) return fail(reason::ArgumentBad, "{} contains a NUL", what);
  return text;
}

}  // namespace thole
