#include "checkpoint/box.h"

#include <algorithm>
#include <array>

namespace thole::checkpoint {
namespace {

struct dtype_entry {
  std::string_view name;
  uint32_t size;
};
constexpr std::array dtypes = {dtype_entry{"bool", 1},
                               dtype_entry{"int8", 1},
                               dtype_entry{"int16", 2},
                               dtype_entry{"int32", 4},
                               dtype_entry{"int64", 8},
                               dtype_entry{"uint8", 1},
                               dtype_entry{"uint16", 2},
                               dtype_entry{"uint32", 4},
                               dtype_entry{"uint64", 8},
                               dtype_entry{"float16", 2},
                               dtype_entry{"bfloat16", 2},
                               dtype_entry{"float32", 4},
                               dtype_entry{"float64", 8},
                               dtype_entry{"complex64", 8},
                               dtype_entry{"complex128", 16},
                               dtype_entry{"float8_e4m3fn", 1},
                               dtype_entry{"float8_e5m2", 1},
                               dtype_entry{"float8_e4m3b11fnuz", 1},
                               dtype_entry{"float8_e4m3fnuz", 1},
                               dtype_entry{"float8_e5m2fnuz", 1},
                               dtype_entry{"float8_e8m0fnu", 1}};

constexpr auto names = [] {
  std::array<std::string_view, dtypes.size()> out;
  for (std::size_t i = 0; i < dtypes.size(); ++i) out[i] = dtypes[i].name;
  return out;
}();

// One corner of a box, in the dimensions that are cut, and the sign with which it counts.
struct corner {
  std::vector<uint64_t> at;
  int64_t sign;
};
constexpr std::size_t most_corners = std::size_t{1} << 24;

void add_corners(std::vector<corner> &to, const box &b, std::span<const std::size_t> cut, int64_t sign) {
  for (std::size_t bits = 0; bits < std::size_t{1} << cut.size(); ++bits) {
    corner c{std::vector<uint64_t>(cut.size()), sign};
    for (std::size_t i = 0; i < cut.size(); ++i) {
      const bool end = (bits >> i & 1) != 0;
      c.at[i] = b.start[cut[i]] + (end ? b.extent[cut[i]] : 0);
      if (end) c.sign = -c.sign;
    }
    to.push_back(std::move(c));
  }
}

}  // namespace

std::optional<uint32_t> element_size(std::string_view dtype) noexcept {
  for (const auto &d : dtypes)
    if (d.name == dtype) return d.size;
  return std::nullopt;
}
std::span<const std::string_view> dtype_names() noexcept {
  return names;
}

std::optional<uint64_t> bytes_of(std::span<const uint64_t> extent, uint64_t size) noexcept {
  // A zero anywhere makes it empty, whatever the other numbers would overflow to.
  if (std::find(extent.begin(), extent.end(), 0) != extent.end()) return 0;
  uint64_t product = size;
  for (uint64_t n : extent)
    if (__builtin_mul_overflow(product, n, &product) || product > uint64_t{INT64_MAX}) return std::nullopt;
  return product;
}

bool inside(const box &b, std::span<const uint64_t> shape) noexcept {
  if (b.start.size() != shape.size() || b.extent.size() != shape.size()) return false;
  for (std::size_t i = 0; i < shape.size(); ++i)
    if (b.start[i] > shape[i] || b.extent[i] > shape[i] - b.start[i]) return false;
  return true;
}

bool is_whole(const box &b, std::span<const uint64_t> shape) noexcept {
  return std::all_of(b.start.begin(), b.start.end(), [](uint64_t s) { return s == 0; }) &&
         std::equal(b.extent.begin(), b.extent.end(), shape.begin(), shape.end());
}

// Boxes cover a tensor exactly if the sum of their indicator functions is the tensor's. Such a function is determined
// by its mixed difference, which is +-1 at the corners of a box and 0 elsewhere: so the signed corners must cancel.
// This is exact, for any arrangement, in n * 2^k steps where k is the number of dimensions that are cut at all.
result<covering> cover(std::span<const box> boxes, std::span<const uint64_t> shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return covering::exact;
  std::vector<const box *> real;
  for (const box &b : boxes)
    if (std::find(b.extent.begin(), b.extent.end(), 0) == b.extent.end()) real.push_back(&b);
  std::vector<std::size_t> cut;
  for (std::size_t d = 0; d < shape.size(); ++d)
    if (std::any_of(real.begin(), real.end(), [&](const box *b) { return b->extent[d] != shape[d]; })) cut.push_back(d);
  if (cut.empty()) return real.size() == 1 ? covering::exact : covering::gap_or_overlap;
  if (cut.size() > 20 || (real.size() + 1) << cut.size() > most_corners)
    return fail(reason::OverBound, "{} boxes cut along {} dimensions are too many to check", real.size(), cut.size());

  std::vector<corner> corners;
  corners.reserve((real.size() + 1) << cut.size());
  for (const box *b : real) add_corners(corners, *b, cut, 1);
  add_corners(corners, box{std::vector<uint64_t>(shape.size()), {shape.begin(), shape.end()}}, cut, -1);
  std::sort(corners.begin(), corners.end(), [](const corner &a, const corner &b) { return a.at < b.at; });
  int64_t sum = 0;
  for (std::size_t i = 0; i < corners.size(); ++i) {
    sum += corners[i].sign;
    if (i + 1 == corners.size() || corners[i].at != corners[i + 1].at) {
      if (sum != 0) return covering::gap_or_overlap;
      sum = 0;
    }
  }
  return covering::exact;
}

}  // namespace thole::checkpoint
