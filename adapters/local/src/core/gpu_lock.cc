#include "core/gpu_lock.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/text.h"

namespace thole::local {
namespace {

// A folder in which every user can make files and nobody can take away another's. $THOLE_GPU_LOCKS is for tests.
result<std::string> lock_folder() {
  const char *chosen = std::getenv("THOLE_GPU_LOCKS");
  for (const std::string &path : {std::string(chosen == nullptr ? "" : chosen), std::string("/run/lock/thole"),
                                  std::string("/tmp/thole-locks")}) {
    if (path.empty()) continue;
    const mode_t old = ::umask(0);
    ::mkdir(path.c_str(), 01777);
    ::umask(old);
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0 || !S_ISDIR(s.st_mode)) continue;
    // Writable by others only with the sticky bit, or anybody could unlink a lock that is held.
    if ((s.st_mode & 0002) != 0 && (s.st_mode & S_ISVTX) == 0) continue;
    if (::access(path.c_str(), W_OK | X_OK) == 0) return path;
  }
  return fail(reason::SystemCallFailed, "neither /run/lock/thole nor /tmp/thole-locks can be used for the GPUs' locks");
}

result<unique_fd> open_lock(const std::string &path, bool mine) {
  // A lock needs no right to write, so files of other users serve as well; O_CREAT on an existing file of another user
  // in a sticky folder is refused by the kernel (protected_regular), hence the two steps.
  unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT && mine) {
    const mode_t old = ::umask(0);
    fd = unique_fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
    ::umask(old);
    if (!fd && errno == EEXIST) fd = unique_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  }
  if (!fd) return fail_errno(reason::SystemCallFailed, errno, "cannot open the lock {}", path);
  return fd;
}

std::string file_part(std::string uuid) {
  std::replace_if(
      uuid.begin(), uuid.end(), [](char c) { return c == '/' || c == '.'; }, '_');
  return uuid;
}

// Whether another ledger holds the GPU: its file begins with the GPU's name, is not ours, and is locked.
result<> check_others(const std::string &folder, const std::string &gpu, const std::string &ours) {
  DIR *all = ::opendir(folder.c_str());
  if (all == nullptr) return fail_errno(reason::SystemCallFailed, errno, "cannot read {}", folder);
  std::vector<std::string> names;
  while (const dirent *entry = ::readdir(all)) names.emplace_back(entry->d_name);
  ::closedir(all);
  for (const std::string &name : names) {
    if (name.rfind(gpu + ".by.", 0) != 0 || name == ours) continue;
    auto fd = open_lock(folder + "/" + name, false);
    if (!fd || ::flock(fd->get(), LOCK_EX | LOCK_NB) == 0) continue;
    struct stat s {};
    ::fstat(fd->get(), &s);
    return fail(reason::GpuHeldByOther,
                "{} is used by a thole of user {} with another state folder: wait for it, or use the same --state", gpu,
                s.st_uid);
  }
  return {};
}

}  // namespace

result<> gpu_locks::take(const std::vector<std::string> &uuids, const std::string &ledger) {
  THOLE_LET(const std::string folder, lock_folder());
  std::vector<unique_fd> taken;
  const std::string owner = std::to_string(::geteuid()) + "." + short_hash(ledger);
  for (const std::string &uuid : uuids) {
    const std::string gpu = file_part(uuid);
    const std::string ours = gpu + ".by." + owner;
    // The gate of a GPU makes looking and taking one step.
    THOLE_LET(const unique_fd gate, open_lock(folder + "/" + gpu + ".gate", true));
    if (::flock(gate.get(), LOCK_EX) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot lock {}", gpu);
    THOLE_TRY(check_others(folder, gpu, ours));
    THOLE_LET(unique_fd mine, open_lock(folder + "/" + ours, true));
    if (::flock(mine.get(), LOCK_SH | LOCK_NB) != 0)
      return fail_errno(reason::GpuHeldByOther, errno, "cannot lock {}", gpu);
    taken.push_back(std::move(mine));
  }
  for (unique_fd &fd : taken) held_.push_back(std::move(fd));
  return {};
}

}  // namespace thole::local
