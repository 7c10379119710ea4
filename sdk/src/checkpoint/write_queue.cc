#include "checkpoint/write_queue.h"

#include <algorithm>
#include <cerrno>

namespace thole::checkpoint {
namespace {

// A failure of the disk stays one; one of this way of writing does not.
int worse(int a, int b) noexcept {
  return a == 0 || a == EAGAIN ? (b == 0 ? a : b) : a;
}

}  // namespace

bool write_queue::start(int fd) {
  const std::size_t count = std::clamp<std::size_t>(most_flying / size_, 2, most_blocks);
  blocks_.resize(count);
  fd_ = fd;
  return kernel_.open(count);
}

void write_queue::stop() noexcept {
  kernel_.close();
  blocks_.resize(1);
  blocks_.front().now = state::free;
}

write_queue::block *write_queue::find_free() noexcept {
  const auto at = std::find_if(blocks_.begin(), blocks_.end(), [](const block &b) { return b.now == state::free; });
  return at == blocks_.end() ? nullptr : &*at;
}

octets_out write_queue::room() {
  block &b = *find_free();  // submit does not come back with 0 before there is one
  if (b.bytes == nullptr) b.bytes = make_aligned(size_);
  return {b.bytes.get(), size_};
}

int write_queue::submit(uint64_t offset, std::size_t size) {
  block &b = *find_free();
  b.offset = offset;
  b.size = size;
  const auto number = static_cast<std::size_t>(&b - blocks_.data());
  if (!kernel_.submit(request_of(IOCB_CMD_PWRITE, fd_, offset, b.bytes.get(), size, number))) {
    b.now = state::refused;
    return EAGAIN;
  }
  b.now = state::flying;
  int error = reap(0);
  while (error == 0 && find_free() == nullptr) error = reap(1);
  return error;
}

int write_queue::drain() {
  int error = 0;
  while (kernel_.flying() > 0) error = worse(error, reap(kernel_.flying()));
  return error;
}

int write_queue::reap(std::size_t at_least) {
  int error = 0;
  for (const io_event &e : kernel_.ended(at_least)) {
    block &b = blocks_[e.data];
    const bool whole = e.res == static_cast<int64_t>(b.size);
    b.now = whole ? state::free : state::refused;
    if (whole) continue;
    const bool only_this_way = e.res >= 0 || e.res == -EINVAL || e.res == -EAGAIN || e.res == -EOPNOTSUPP;
    error = worse(error, only_this_way ? EAGAIN : static_cast<int>(-e.res));
  }
  return error;
}

std::vector<write_queue::piece> write_queue::unwritten() const {
  std::vector<piece> out;
  for (const block &b : blocks_)
    if (b.now == state::refused) out.push_back({b.offset, {b.bytes.get(), b.size}});
  return out;
}

}  // namespace thole::checkpoint
