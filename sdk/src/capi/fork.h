// capi/fork.h: is this still the process that opened the core?
//
// Two witnesses. pthread_atfork's child handler counts up a number; it does not run for _Fork() and raw clone(). A page
// that the kernel wipes in a child (MADV_WIPEONFORK) is seen by those too. Neither is a lock: a child owns no threads,
// so it only has to see that it is another process. vfork shares the page and cannot be told apart; exec must follow
// it.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/status.h"

namespace thole::fork {

struct witness {
  std::atomic<uint32_t> *alive;  // 1 in the process that made it, 0 in any child
  std::atomic<uint32_t> generation;
};
extern witness here;

// Registers the witnesses at the first open of a process, and again at the first open of a forked child.
result<> arm() noexcept;

inline uint32_t generation() noexcept {
  return here.generation.load(std::memory_order_relaxed);
}

// True in a child that has not opened a core of its own, and before the first open.
inline bool unarmed() noexcept {
  return here.alive == nullptr || here.alive->load(std::memory_order_relaxed) == 0;
}

}  // namespace thole::fork
