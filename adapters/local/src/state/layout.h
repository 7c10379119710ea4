// state/layout.h: where this platform keeps things. docs/reference/state.md is the map.
#pragma once

#include <string>
#include <vector>

#include "base/files.h"
#include "base/problem.h"

namespace thole::local {

class layout {
 public:
  // `folder` is --state; empty means $XDG_STATE_HOME/thole or ~/.local/state/thole. Made if it is missing, mode 0700.
  // Fails: StateUnwritable, StateNotPrivate, StateNewer.
  static result<layout> open(const std::string &folder);

  const std::string &root() const noexcept { return root_; }
  std::string ledger(const std::string &name) const { return root_ + "/ledger/" + name; }
  std::string jobs() const { return root_ + "/jobs"; }
  std::string job(const std::string &name) const { return root_ + "/jobs/" + name; }
  std::string attempt(const std::string &name, uint64_t n) const;
  std::string keys() const { return root_ + "/keys"; }
  std::string stores() const { return root_ + "/stores"; }
  std::vector<std::string> job_names() const;

 private:
  std::string root_;
};

// A short private folder for a job's sockets: the path of a socket ends at 107 bytes, that of a state folder does not.
// $XDG_RUNTIME_DIR/thole, or /tmp/thole-UID.
result<std::string> runtime_folder();

// An exclusive lock on a file, which ends with the process (and with nothing else).
class file_lock {
 public:
  file_lock() = default;
  // With `wait` it waits; without, a lock that another holds answers an empty file_lock.
  static result<file_lock> take(const std::string &path, bool wait);
  // Looks without taking.
  static bool is_held(const std::string &path);
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  void release() noexcept { fd_.reset(); }

 private:
  unique_fd fd_;
};

}  // namespace thole::local
