#include "base/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

namespace thole::local {

namespace fs = std::filesystem;

void unique_fd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

result<std::string> read_file(const std::string &path, std::size_t most) {
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(reason::SystemCallFailed, errno, "cannot open {}", path);
  std::string out;
  char piece[65536];
  for (;;) {
    const ssize_t n = ::read(fd.get(), piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(reason::SystemCallFailed, errno, "cannot read {}", path);
    if (n == 0) return out;
    if (out.size() + static_cast<std::size_t>(n) > most)
      return fail(reason::OverBound, "{} is larger than {} bytes", path, most);
    out.append(piece, static_cast<std::size_t>(n));
  }
}

bool exists(const std::string &path) {
  struct stat s {};
  return ::lstat(path.c_str(), &s) == 0;
}

result<> replace_file(const std::string &path, std::string_view content) {
  // One writer at a time holds the job's lock, so a temporary that is left from a crash is nobody's.
  const std::string temporary = path + ".new";
  const unique_fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail_errno(reason::StateUnwritable, errno, "cannot write {}", temporary);
  for (std::string_view rest = content; !rest.empty();) {
    const ssize_t n = ::write(fd.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(reason::StateUnwritable, errno, "cannot write {}", temporary);
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::fsync(fd.get()) != 0) return fail_errno(reason::StateUnwritable, errno, "cannot sync {}", temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return fail_errno(reason::StateUnwritable, errno, "cannot rename to {}", path);
  const unique_fd folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || ::fsync(folder.get()) != 0)
    return fail_errno(reason::StateUnwritable, errno, "cannot sync the folder of {}", path);
  return {};
}

result<> make_private_folder(const std::string &path) {
  std::error_code bad;
  const fs::path parent = fs::path(path).parent_path();
  if (!parent.empty() && !fs::exists(parent, bad)) THOLE_TRY(make_private_folder(parent.string()));
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(reason::StateUnwritable, errno, "cannot make the folder {}; choose another with --state", path);
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0)
    return fail_errno(reason::StateUnwritable, errno, "cannot use the folder {}", path);
  if (!S_ISDIR(s.st_mode)) return fail(reason::StateUnwritable, "{} is not a folder", path);
  return {};
}

void remove_tree(const std::string &path) noexcept {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

std::string absolute_path(const std::string &path) {
  std::error_code bad;
  const fs::path p = fs::absolute(path, bad);
  return bad ? path : p.lexically_normal().string();
}

std::string folder_of(const std::string &path) {
  const fs::path p = fs::path(path).parent_path();
  return p.empty() ? "." : p.string();
}

}  // namespace thole::local
