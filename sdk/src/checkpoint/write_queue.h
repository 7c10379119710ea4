// checkpoint/write_queue.h: blocks of one file on their way to the disk while the next are filled, without a thread.
#pragma once

#include <vector>

#include "checkpoint/kernel_queue.h"
#include "checkpoint/octets.h"

namespace thole::checkpoint {

// There is one block, and nothing is in flight, until start(). After it, submit() hands a block to the kernel and soon
// comes back.
class write_queue {
 public:
  explicit write_queue(std::size_t block) : size_(block), blocks_(1) {}

  // False: the kernel has no such queue for us, and its owner writes the one block itself.
  bool start(int fd);
  bool started() const noexcept { return static_cast<bool>(kernel_); }
  // Waits for what is in flight, and is as before start().
  void stop() noexcept;

  // The block to be filled: the same one until it is submitted.
  octets_out room();
  // Both answer 0 or the errno of this or an earlier write. EAGAIN means unwritten(). After an errno only drain,
  // unwritten and stop make sense.
  int submit(uint64_t offset, std::size_t size);
  int drain();

  struct piece {
    uint64_t offset = 0;
    octets bytes;
  };
  // After drain(): what the kernel or the file system did not take in this way, or only half of.
  std::vector<piece> unwritten() const;

 private:
  enum class state : uint8_t { free, flying, refused };
  struct block {
    aligned_bytes bytes;
    state now = state::free;
    uint64_t offset = 0;
    std::size_t size = 0;
  };
  block *find_free() noexcept;
  int reap(std::size_t at_least);

  std::size_t size_;
  std::vector<block> blocks_;
  int fd_ = -1;
  kernel_queue kernel_;  // goes before the blocks, and waits
};

}  // namespace thole::checkpoint
