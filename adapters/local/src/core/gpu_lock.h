// core/gpu_lock.h: one ledger a GPU. Two users, or two state folders of one user, would each think that a GPU is
// theirs.
#pragma once

#include <string>
#include <vector>

#include "base/files.h"
#include "base/problem.h"

namespace thole::local {

// Shared locks of this ledger on GPUs, held as long as the process lives. Any number of jobs of one ledger may share a
// GPU.
class gpu_locks {
 public:
  // Fails: GpuHeldByOther, and then holds none of them.
  result<> take(const std::vector<std::string> &uuids, const std::string &ledger);

 private:
  std::vector<unique_fd> held_;
};

}  // namespace thole::local
