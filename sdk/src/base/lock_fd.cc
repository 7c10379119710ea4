#include "base/lock_fd.h"

#include <unistd.h>

#include <array>
#include <atomic>

namespace thole {
namespace {

// Each descriptor plus one; 0 is a free place. A core has one, and a change of an anchor; where all places are taken, a
// child keeps what has none.
constinit std::array<std::atomic<int>, 1024> known{};

}  // namespace

lock_fd::lock_fd(unique_fd fd) noexcept : fd_(std::move(fd)) {
  if (!fd_) return;
  for (std::atomic<int> &place : known)
    if (int empty = 0; place.compare_exchange_strong(empty, fd_.get() + 1, std::memory_order_relaxed)) return;
}

void lock_fd::forget() noexcept {
  if (!fd_) return;
  for (std::atomic<int> &place : known)
    if (int mine = fd_.get() + 1; place.compare_exchange_strong(mine, 0, std::memory_order_relaxed)) return;
}

lock_fd &lock_fd::operator=(lock_fd &&other) noexcept {
  if (this != &other) {
    forget();
    fd_ = std::move(other.fd_);
  }
  return *this;
}

lock_fd::~lock_fd() {
  // Before it is closed: its number may be somebody else's the instant after.
  forget();
}

void lock_fd::close_all_in_child() noexcept {
  for (std::atomic<int> &place : known)
    if (const int taken = place.exchange(0, std::memory_order_relaxed); taken != 0) ::close(taken - 1);
}

}  // namespace thole
