#include "loader/trust.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>

#include "base/text.h"

namespace thole::loader {
namespace {

constexpr std::size_t most_manifests = 256;

bool owned(const struct stat &s) noexcept {
  return s.st_uid == 0 || s.st_uid == ::geteuid();
}

// Whether a folder on the way keeps others from replacing what lies below it.
result<> check_folder(const struct stat &s, const std::string &path, bool last) {
  if (!owned(s))
    return fail(reason::PluginFolderNotPrivate, "{} belongs to user {}: root or the user {} must own it", path,
                s.st_uid, ::geteuid());
  const bool sticky = (s.st_mode & S_ISVTX) != 0 && !last;
  if ((s.st_mode & (S_IWGRP | S_IWOTH)) != 0 && !sticky)
    return fail(reason::PluginFolderNotPrivate, "others than its owner may write to {} (mode {:04o}): chmod go-w it",
                path, s.st_mode & 07777u);
  return {};
}

result<unique_fd> open_below(int folder, const std::string &name, const std::string &path, bool last) {
  for (;;) {
    const int fd = ::openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EINTR) continue;
    if (fd < 0)
      return fail_errno(errno == ENOENT ? reason::PluginFolderMissing : reason::PluginFolderNotPrivate, errno,
                        "cannot open the folder {}", path);
    unique_fd opened(fd);
    struct stat s;
    if (::fstat(fd, &s) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot stat {}", path);
    THOLE_TRY(check_folder(s, path, last));
    return opened;
  }
}

}  // namespace

result<trusted_folder> open_trusted_folder(const std::string &path) {
  const std::unique_ptr<char, void (*)(void *)> real(::realpath(path.c_str(), nullptr), ::free);
  if (!real) return fail_errno(reason::PluginFolderMissing, errno, "no plugin folder {}", path);
  // From the root down, each folder opened in the one before it: a path that is exchanged meanwhile leads nowhere else.
  trusted_folder out{{}, real.get()};
  THOLE_LET(out.fd, open_below(AT_FDCWD, "/", "/", out.path == "/"));
  for (std::size_t from = 1; from < out.path.size();) {
    const std::size_t slash = std::min(out.path.find('/', from), out.path.size());
    THOLE_LET(out.fd, open_below(out.fd.get(), out.path.substr(from, slash - from), out.path.substr(0, slash),
                                 slash == out.path.size()));
    from = slash + 1;
  }
  return out;
}

result<std::vector<std::string>> manifest_names(const trusted_folder &folder) {
  const int fd = ::openat(folder.fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_errno(reason::SystemCallFailed, errno, "cannot list {}", folder.path);
  const std::unique_ptr<DIR, int (*)(DIR *)> entries(::fdopendir(fd), ::closedir);
  if (!entries) {
    const int why = errno;
    ::close(fd);
    return fail_errno(reason::SystemCallFailed, why, "cannot list {}", folder.path);
  }
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent *entry = ::readdir(entries.get());
    if (entry == nullptr && errno != 0)
      return fail_errno(reason::SystemCallFailed, errno, "cannot list {}", folder.path);
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name.starts_with('.') || !name.ends_with(".yaml")) continue;
    if (names.size() == most_manifests)
      return fail(reason::OverBound, "{} holds more than {} manifests", folder.path, most_manifests);
    names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

result<trusted_file> read_trusted_file(const trusted_folder &folder, const std::string &name, std::size_t most,
                                       reason missing) {
  const std::string path = folder.path + "/" + name;
  trusted_file out;
  // Not blocking, so that a FIFO of that name does not hold the host up.
  int fd;
  do fd = ::openat(folder.fd.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  while (fd < 0 && errno == EINTR);
  if (fd < 0 && errno == ELOOP)
    return fail(reason::PluginNotPrivate, "{} is a symbolic link: put the file itself there", path);
  if (fd < 0 && errno == ENOENT) return fail(missing, "{} is not there", path);
  if (fd < 0) return fail_errno(reason::PluginNotPrivate, errno, "cannot open {}", path);
  out.fd.reset(fd);

  struct stat s;
  struct statvfs mount;
  if (::fstat(fd, &s) != 0 || ::fstatvfs(fd, &mount) != 0)
    return fail_errno(reason::SystemCallFailed, errno, "cannot stat {}", path);
  if (!S_ISREG(s.st_mode)) return fail(reason::PluginNotPrivate, "{} is not a regular file", path);
  if (!owned(s))
    return fail(reason::PluginNotPrivate, "{} belongs to user {}: root or the user {} must own it", path, s.st_uid,
                ::geteuid());
  if ((s.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return fail(reason::PluginNotPrivate, "others than its owner may write to {} (mode {:04o}): chmod go-w it", path,
                s.st_mode & 07777u);
  out.unchangeable = s.st_uid == 0 || (mount.f_flag & ST_RDONLY) != 0;
  THOLE_LET(out.bytes, read_all(fd, most, path));
  return out;
}

result<std::string> digest_text(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1)
    return fail(reason::Defect, "SHA-256 is not available in this process's OpenSSL");
  return hex({digest.data(), size});
}

}  // namespace thole::loader
