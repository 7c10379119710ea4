// capi/room.h: laying an answer out in the buffer that the caller lent.
#pragma once

#include <thole/base.h>

#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thole {

// Hands out pieces of the caller's buffer. When it is full, pieces come from memory of its own, so that the layout code
// has one path; finish() then answers how much would have been needed.
class room {
 public:
  explicit room(thole_buffer *to) noexcept : to_(to) {}

  template <class T>
  T *array(uint64_t count) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 8);
    auto *p = static_cast<T *>(take(count * sizeof(T)));
    for (uint64_t i = 0; i < count; ++i) new (p + i) T{};
    return p;
  }
  thole_str text(std::string_view s) {
    if (s.empty()) return {nullptr, 0};
    auto *p = static_cast<char *>(take(s.size()));
    std::memcpy(p, s.data(), s.size());
    return {p, s.size()};
  }
  template <class T>
  static thole_list list(const T *data, uint64_t count) noexcept {
    return count == 0 ? thole_list{nullptr, 0, 0} : thole_list{data, count, sizeof(T)};
  }

  // Whether the buffer can be used at all; before any state changes.
  result<> check() const {
    if (to_ == nullptr) return fail(reason::ArgumentMissing, "room is NULL");
    if (to_->size > 0 && (to_->data == nullptr || reinterpret_cast<uintptr_t>(to_->data) % 8 != 0))
      return fail(reason::ArgumentBad, "room.data is NULL or not aligned to 8 bytes");
    return {};
  }
  // Sets `used`, and fails with BufferTooSmall if the caller's buffer did not hold everything.
  result<> finish() {
    to_->used = used_;
    if (used_ > to_->size) return fail(reason::BufferTooSmall, "{} bytes are needed, {} were lent", used_, to_->size);
    return {};
  }

 private:
  void *take(uint64_t size) {
    size = (size + 7) & ~uint64_t{7};
    const uint64_t at = used_;
    used_ += size;
    if (used_ <= to_->size) return static_cast<char *>(to_->data) + at;
    spill_.push_back(std::make_unique<uint64_t[]>(size / 8 + 1));
    return spill_.back().get();
  }
  thole_buffer *to_;
  uint64_t used_ = 0;
  std::vector<std::unique_ptr<uint64_t[]>> spill_;
};

}  // namespace thole
