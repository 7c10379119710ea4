// metrics/layout.h: the metrics file, byte by byte (docs/reference/metrics.md).
#pragma once

#include <thole/draft/metrics.h>

#include <cstddef>
#include <cstdint>

namespace thole::metrics::layout {

constexpr char magic[8] = {'T', 'H', 'O', 'L', 'E', 'M', 'E', 'T'};
constexpr uint32_t version = 1;
constexpr uint64_t header_size = 4096;
constexpr uint64_t chunk = 65536;  // what is mapped at once; a multiple of every page size in use
constexpr uint64_t unit = 64;      // of a block: a cell has its cache line for itself
constexpr uint64_t most_bytes = uint64_t{64} << 20;

enum state : uint32_t { open = 1, closed = 2 };

struct header {
  char magic[8];
  uint32_t version;
  uint32_t state;
  unsigned char boot[16];
  uint64_t pid;
  uint64_t start_ticks;
  unsigned char generation[16];
  uint64_t made_ns;
  uint64_t used;
};
static_assert(sizeof(header) == 80 && offsetof(header, used) == 72);

enum block_kind : uint32_t { family = 1, series = 2, filler = 3 };

struct block {
  uint32_t kind;
  uint32_t size;
};

struct family_block {
  block head;
  uint32_t number;
  int32_t kind;
  uint32_t max_series;
  uint32_t labels;
  uint32_t bounds;
  uint32_t name_size;
  uint32_t help_size;
  uint32_t unit_size;
  // bounds (double each), name, help, unit, then each label key after its length
};
static_assert(sizeof(family_block) == 40);

struct series_block {
  block head;
  uint32_t family;
  uint32_t values;
  uint32_t cell;  // offset in the block
  uint32_t flags;
  uint32_t buckets;
  uint32_t unused;
  // each value after its length, then the cell and its buckets
};
static_assert(sizeof(series_block) == 32);
static_assert(sizeof(thole_cell) <= unit);

constexpr uint64_t rounded(uint64_t n) noexcept {
  return (n + unit - 1) / unit * unit;
}

}  // namespace thole::metrics::layout
