// checkpoint/kernel_queue.h: the kernel's asynchronous I/O, and memory that a disk takes as it is. glibc has no calls
// for it; containers that forbid io_uring allow it.
#pragma once

#include <linux/aio_abi.h>

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <span>

namespace thole::checkpoint {

// So much is on its way at once: enough for the disk to go on while this thread waits for a processor.
inline constexpr std::size_t most_flying = std::size_t{8} << 20;
inline constexpr std::size_t most_blocks = 16;

struct aligned_delete {
  static constexpr std::align_val_t alignment{4096};
  void operator()(unsigned char *p) const noexcept { ::operator delete[](p, alignment); }
};
using aligned_bytes = std::unique_ptr<unsigned char[], aligned_delete>;
inline aligned_bytes make_aligned(std::size_t size) {
  return aligned_bytes(new (aligned_delete::alignment) unsigned char[size]);
}

class kernel_queue {
 public:
  kernel_queue() = default;
  ~kernel_queue() { close(); }
  kernel_queue(const kernel_queue &) = delete;
  kernel_queue &operator=(const kernel_queue &) = delete;

  bool open(std::size_t most) noexcept;  // false: there is none for us
  explicit operator bool() const noexcept { return context_ != 0; }
  void close() noexcept;  // waits: only then is memory that was given to it ours again

  bool submit(iocb request) noexcept;
  std::size_t flying() const noexcept { return flying_; }
  // What has ended, after waiting for `at_least` of them.
  std::span<const io_event> ended(std::size_t at_least) noexcept;

 private:
  aio_context_t context_ = 0;
  std::size_t flying_ = 0;
  std::array<io_event, most_blocks> events_;
};

// One read or write of `size` bytes at `offset`; `number` comes back with its end.
iocb request_of(uint16_t what, int fd, uint64_t offset, unsigned char *bytes, std::size_t size, std::size_t number);

}  // namespace thole::checkpoint
