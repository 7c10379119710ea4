#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>

#include "base/id.h"
#include "base/text.h"

namespace thole {

void unique_fd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

result<unique_fd> open_file(const std::string &path, int flags, mode_t mode) {
  for (;;) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return unique_fd(fd);
    if (errno != EINTR) return fail_errno(reason::SystemCallFailed, errno, "cannot open {}", path);
  }
}

result<std::string> read_all(int fd, std::size_t most, const std::string &name) {
  std::string out;
  char piece[16384];
  for (;;) {
    const ssize_t n = ::read(fd, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(reason::SystemCallFailed, errno, "cannot read {}", name);
    if (n == 0) return out;
    if (out.size() + static_cast<std::size_t>(n) > most)
      return fail(reason::OverBound, "{} is larger than {}", name, bytes_text(most));
    out.append(piece, static_cast<std::size_t>(n));
  }
}

result<std::string> read_file(const std::string &path, std::size_t most) {
  THOLE_LET(unique_fd fd, open_file(path, O_RDONLY));
  return read_all(fd.get(), most, path);
}

result<> write_all(int fd, const void *data, std::size_t size, const std::string &name) {
  const char *p = static_cast<const char *>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(reason::SystemCallFailed, errno, "cannot write {}", name);
    p += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

result<> make_folder(const std::string &path) {
  if (::mkdir(path.c_str(), 0700) == 0) return {};
  if (errno == EEXIST) return {};
  if (errno == ENOENT) {
    const auto [parent, name] = split_path(path);
    if (parent != path && !parent.empty()) {
      THOLE_TRY(make_folder(parent));
      if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
    }
  }
  return fail_errno(reason::SystemCallFailed, errno, "cannot make the folder {}", path);
}

result<> sync_folder(const std::string &path) {
  THOLE_LET(unique_fd fd, open_file(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot sync the folder {}", path);
  return {};
}

result<std::string> absolute(std::string_view path) {
  if (path.empty() || path.starts_with('/')) return std::string(path);
  const std::unique_ptr<char, void (*)(void *)> here(::getcwd(nullptr, 0), ::free);
  if (here == nullptr)
    return fail_errno(reason::SystemCallFailed, errno, "'{}' is relative, and the working folder cannot be had", path);
  return std::string(here.get()) + "/" + std::string(path);
}

std::pair<std::string, std::string> split_path(const std::string &path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  if (slash == 0) return {"/", path.substr(1)};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

result<> replace_file(const std::string &path, std::string_view content, mode_t mode) {
  THOLE_LET(const id128 salt, random_id());
  const std::string temporary = path + "." + to_text(salt).substr(0, 8) + ".tmp";
  THOLE_LET(unique_fd fd, open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, mode));
  auto write = [&]() -> result<> {
    THOLE_TRY(write_all(fd.get(), content.data(), content.size(), temporary));
    // A failed fsync is final: the kernel may have dropped the pages, so the file is not tried again but removed.
    if (::fsync(fd.get()) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot sync {}", temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0)
      return fail_errno(reason::SystemCallFailed, errno, "cannot rename {}", temporary);
    return sync_folder(split_path(path).first);
  };
  auto done = write();
  if (!done) ::unlink(temporary.c_str());
  return done;
}

}  // namespace thole
