#include "checkpoint/read_queue.h"

#include <algorithm>

namespace thole::checkpoint {

bool read_queue::start(int fd, uint64_t offset, uint64_t end) {
  stop();
  const std::size_t count = std::clamp<std::size_t>(most_flying / size_, 2, most_blocks);
  if (!kernel_ && !kernel_.open(count)) return false;
  slots_.resize(count);
  fd_ = fd;
  from_ = offset;
  end_ = end;
  for (std::size_t i = 0; i < count && from_ < end_; ++i)
    if (!fetch(i)) break;
  return slots_.front().flying;
}

void read_queue::stop() noexcept {
  while (kernel_.flying() > 0) static_cast<void>(kernel_.ended(kernel_.flying()));
  for (slot &s : slots_) {
    s.flying = false;
    s.offset = UINT64_MAX;
  }
  head_ = 0;
  taken_ = SIZE_MAX;
}

bool read_queue::fetch(std::size_t number) {
  slot &s = slots_[number];
  if (s.bytes == nullptr) s.bytes = make_aligned(size_);
  s.size = std::min<uint64_t>(size_, end_ - from_);
  s.flying = kernel_.submit(request_of(IOCB_CMD_PREAD, fd_, from_, s.bytes.get(), s.size, number));
  s.offset = s.flying ? from_ : UINT64_MAX;
  from_ += s.flying ? s.size : 0;
  return s.flying;
}

octets read_queue::take() {
  if (taken_ != SIZE_MAX) {
    slots_[taken_].offset = UINT64_MAX;
    if (from_ < end_) static_cast<void>(fetch(taken_));
  }
  slot &s = slots_[head_];
  while (s.flying)
    for (const io_event &e : kernel_.ended(1)) {
      slots_[e.data].got = e.res;
      slots_[e.data].flying = false;
    }
  if (s.got != static_cast<int64_t>(s.size)) return {};
  taken_ = head_;
  head_ = (head_ + 1) % slots_.size();
  return {s.bytes.get(), s.size};
}

}  // namespace thole::checkpoint
