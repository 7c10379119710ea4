// checkpoint/read_queue.h: the blocks of a long run of a file, fetched from the disk before they are asked for.
#pragma once

#include <vector>

#include "checkpoint/kernel_queue.h"
#include "checkpoint/octets.h"

namespace thole::checkpoint {

class read_queue {
 public:
  explicit read_queue(std::size_t block) : size_(block) {}

  // Begins to fetch [offset, end), whose first block is whole and whose end is that of a page. False: no such queue.
  bool start(int fd, uint64_t offset, uint64_t end);
  void stop() noexcept;
  // Where the block that take() gives next stands; UINT64_MAX if there is none.
  uint64_t next() const noexcept { return slots_.empty() ? UINT64_MAX : slots_[head_].offset; }
  std::size_t block_size() const noexcept { return size_; }
  // It, until the next call. Empty if it could not be read in this way: nothing more comes then.
  octets take();

 private:
  struct slot {
    aligned_bytes bytes;
    uint64_t offset = UINT64_MAX;
    std::size_t size = 0;
    int64_t got = 0;
    bool flying = false;
  };
  bool fetch(std::size_t number);

  std::size_t size_;
  std::vector<slot> slots_;  // a ring
  std::size_t head_ = 0;
  std::size_t taken_ = SIZE_MAX;  // the slot that take() gave last
  uint64_t from_ = 0;             // what is still to be asked for
  uint64_t end_ = 0;
  int fd_ = -1;
  kernel_queue kernel_;  // goes before the slots, and waits
};

}  // namespace thole::checkpoint
