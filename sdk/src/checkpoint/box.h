// checkpoint/box.h: dtypes, and boxes of tensors: whether they lie inside, how many bytes they have, whether several
// cover a tensor exactly.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thole::checkpoint {

// Bytes of an element. Empty: no such dtype.
std::optional<uint32_t> element_size(std::string_view dtype) noexcept;
std::span<const std::string_view> dtype_names() noexcept;

struct box {
  std::vector<uint64_t> start;
  std::vector<uint64_t> extent;
  friend bool operator==(const box &, const box &) = default;
  friend auto operator<=>(const box &, const box &) = default;
};

// Product times size, or nothing if it does not fit 63 bits.
std::optional<uint64_t> bytes_of(std::span<const uint64_t> extent, uint64_t size) noexcept;

bool inside(const box &b, std::span<const uint64_t> shape) noexcept;
bool is_whole(const box &b, std::span<const uint64_t> shape) noexcept;

// Whether boxes inside `shape` cover it: each element exactly once. Boxes without elements count for nothing.
// Fails: OverBound if they are cut along more dimensions than can be checked.
enum class covering { exact, gap_or_overlap };
result<covering> cover(std::span<const box> boxes, std::span<const uint64_t> shape);

}  // namespace thole::checkpoint
