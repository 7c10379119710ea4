// base/lock_fd.h: a descriptor that a lock on a file hangs on.
//
// Such a lock belongs to what was opened and not to the process, so a forked child has it too: it would keep it while
// the child lives, whatever becomes of its parent. So the child of fork() closes these descriptors, before anything
// else runs there. (The children of _Fork() and clone() run no handler and keep them until they end or execute
// something.)
#pragma once

#include "base/file.h"

namespace thole {

class lock_fd {
 public:
  lock_fd() = default;
  explicit lock_fd(unique_fd fd) noexcept;
  lock_fd(lock_fd &&other) noexcept = default;
  lock_fd &operator=(lock_fd &&other) noexcept;
  ~lock_fd();
  int get() const noexcept { return fd_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  // In a child of fork(), where no other thread exists. Nothing here waits or allocates.
  static void close_all_in_child() noexcept;

 private:
  void forget() noexcept;
  unique_fd fd_;
};

}  // namespace thole
