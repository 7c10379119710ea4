#include "checkpoint/kernel_queue.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace thole::checkpoint {

bool kernel_queue::open(std::size_t most) noexcept {
  if (syscall(SYS_io_setup, static_cast<unsigned>(most), &context_) != 0) context_ = 0;
  return context_ != 0;
}

void kernel_queue::close() noexcept {
  if (context_ != 0) static_cast<void>(syscall(SYS_io_destroy, context_));
  context_ = 0;
  flying_ = 0;
}

bool kernel_queue::submit(iocb request) noexcept {
  iocb *one = &request;
  if (syscall(SYS_io_submit, context_, 1L, &one) != 1) return false;
  ++flying_;
  return true;
}

std::span<const io_event> kernel_queue::ended(std::size_t at_least) noexcept {
  const long n = syscall(SYS_io_getevents, context_, static_cast<long>(at_least), static_cast<long>(events_.size()),
                         events_.data(), nullptr);
  if (n <= 0) return {};  // a signal: the caller asks again
  flying_ -= static_cast<std::size_t>(n);
  return std::span(events_).first(static_cast<std::size_t>(n));
}

iocb request_of(uint16_t what, int fd, uint64_t offset, unsigned char *bytes, std::size_t size, std::size_t number) {
  iocb out{};
  out.aio_data = number;
  out.aio_lio_opcode = what;
  out.aio_fildes = static_cast<uint32_t>(fd);
  out.aio_buf = reinterpret_cast<uint64_t>(bytes);
  out.aio_nbytes = size;
  out.aio_offset = static_cast<int64_t>(offset);
  return out;
}

}  // namespace thole::checkpoint
