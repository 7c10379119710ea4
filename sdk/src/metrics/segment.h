// metrics/segment.h: the memory that cells lie in: a mapped file, or pages of this process only.
//
// It grows by chunks, each mapped once and never unmapped, so a cell keeps its address for as long as the process
// lives. A block counts from the moment when the header's `used` includes it: a process that is killed while it writes
// one has not written it.
#pragma once

#include <string>
#include <string_view>

#include "base/file.h"
#include "base/id.h"
#include "base/status.h"
#include "metrics/layout.h"

namespace thole::metrics {

class segment {
 public:
  // An empty path keeps it in memory. MetricsFileTaken, MetricsFileBad (something else has that name), StoreFull.
  static result<segment> make(const std::string &file);
  segment(segment &&other) noexcept;
  segment &operator=(segment &&) = delete;
  // Says in the header that its process has closed it. Nothing is unmapped.
  ~segment();

  // A zeroed block of at least `size` bytes with its head filled in, aligned to 64 and not yet counted. StoreFull,
  // MetricsFull.
  result<char *> reserve(layout::block_kind kind, uint64_t size);
  // Counts the block of the last reserve.
  void publish() noexcept;

  id128 generation() const noexcept { return generation_; }

 private:
  segment() = default;
  result<> map_chunk();
  char *at(uint64_t offset) noexcept { return chunk_ + (offset - chunk_begin_); }

  unique_fd fd_;
  std::string file_;
  layout::header *header_ = nullptr;
  char *chunk_ = nullptr;  // the last one
  uint64_t chunk_begin_ = 0;
  uint64_t end_ = 0;   // what is mapped
  uint64_t used_ = 0;  // our own: what stands in the file is for others to read
  uint64_t next_ = 0;  // what publish() will make `used`
  id128 generation_;
};

}  // namespace thole::metrics
