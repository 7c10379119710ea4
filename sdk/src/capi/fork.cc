#include "capi/fork.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "base/lock_fd.h"

namespace thole::fork {

constinit witness here{nullptr, 1};

namespace {

// Runs in every child that fork() makes: nothing that could wait for a lock.
void in_child() noexcept {
  lock_fd::close_all_in_child();
  here.generation.fetch_add(1, std::memory_order_relaxed);
  if (here.alive != nullptr) here.alive->store(0, std::memory_order_relaxed);
}

// A spin lock that a child may find taken by a thread that does not exist there; arm() therefore never waits long on
// it.
constinit std::atomic<uint32_t> arming{0};

result<> map_page() noexcept {
  const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void *page = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED)
    return fail_errno(reason::SystemCallFailed, errno, "cannot map the page that tells forks apart");
  if (madvise(page, size, MADV_WIPEONFORK) != 0) {
    const int e = errno;
    munmap(page, size);
    return fail_errno(reason::SystemCallFailed, e, "MADV_WIPEONFORK is refused (Linux 4.14 or newer is needed)");
  }
  if (const int e = pthread_atfork(nullptr, nullptr, in_child); e != 0) {
    munmap(page, size);
    return fail_errno(reason::OutOfMemory, e, "pthread_atfork failed");
  }
  here.alive = new (page) std::atomic<uint32_t>(1);
  return {};
}

}  // namespace

result<> arm() noexcept {
  if (!unarmed()) return {};
  // Only the first open of a process races here, with the first open on another thread.
  const auto self = static_cast<uint32_t>(getpid());
  for (uint32_t owner = 0; !arming.compare_exchange_weak(owner, self, std::memory_order_acquire); owner = 0) {
    if (owner != 0 && owner != self) arming.store(0, std::memory_order_relaxed);  // taken by a thread of our parent
    if (!unarmed()) return {};
  }
  result<> done{};
  if (here.alive == nullptr) {
    done = map_page();
  } else if (here.alive->load(std::memory_order_relaxed) == 0) {
    // A child of clone() or _Fork() did not run in_child: what its parent opened must not pass for its own.
    here.generation.fetch_add(1, std::memory_order_relaxed);
    here.alive->store(1, std::memory_order_relaxed);
  }
  arming.store(0, std::memory_order_release);
  return done;
}

}  // namespace thole::fork
