#include "state/layout.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "base/text.h"

namespace thole::local {
namespace {

constexpr std::string_view version_line = "thole state 1\n";

result<std::string> default_root() {
  if (const char *xdg = std::getenv("XDG_STATE_HOME"); xdg != nullptr && *xdg == '/')
    return std::string(xdg) + "/thole";
  const char *home = std::getenv("HOME");
  if (home == nullptr || *home == '\0')
    return fail(reason::StateUnwritable, "neither --state nor XDG_STATE_HOME nor HOME says where to keep state");
  return std::string(home) + "/.local/state/thole";
}

result<> check_private(const std::string &path, reason why) {
  struct stat s {};
  if (::lstat(path.c_str(), &s) != 0) return fail_errno(reason::StateUnwritable, errno, "cannot use {}", path);
  if (!S_ISDIR(s.st_mode)) return fail(why, "{} is not a folder", path);
  if (s.st_uid != ::geteuid()) return fail(why, "{} belongs to user {}: choose another with --state", path, s.st_uid);
  if ((s.st_mode & 022) != 0) return fail(why, "others may write to {}: chmod 700 it", path);
  return {};
}

// The version of what is in the folder is written before anything else is.
result<> check_version(const std::string &root) {
  const std::string file = root + "/version";
  THOLE_LET(const file_lock one_at_a_time, file_lock::take(file + ".lock", true));
  if (!exists(file)) return replace_file(file, version_line);
  THOLE_LET(const std::string text, read_file(file, 4096));
  if (text != version_line)
    return fail(reason::StateNewer, "{} was written by another version of thole ({}): use that, or another --state",
                root, utf8_or_replaced(text.substr(0, text.find('\n'))));
  return {};
}

struct flock whole_file() {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return whole;
}

}  // namespace

result<layout> layout::open(const std::string &folder) {
  layout l;
  if (folder.empty()) {
    THOLE_LET(l.root_, default_root());
  } else {
    l.root_ = absolute_path(folder);
  }
  while (l.root_.size() > 1 && l.root_.back() == '/') l.root_.pop_back();
  THOLE_TRY(make_private_folder(l.root_));
  std::error_code bad;
  l.root_ = std::filesystem::canonical(l.root_, bad).string();
  THOLE_TRY(check_private(l.root_, reason::StateNotPrivate));
  if (::access(l.root_.c_str(), W_OK | X_OK) != 0)
    return fail_errno(reason::StateUnwritable, errno, "cannot write to {}: choose another folder with --state",
                      l.root_);
  THOLE_TRY(check_version(l.root_));
  for (const char *name : {"/ledger", "/jobs", "/keys", "/stores"}) THOLE_TRY(make_private_folder(l.root_ + name));
  return l;
}

std::string layout::attempt(const std::string &name, uint64_t n) const {
  return job(name) + "/attempts/" + std::to_string(n);
}

std::vector<std::string> layout::job_names() const {
  std::vector<std::string> names;
  std::error_code bad;
  for (const auto &entry : std::filesystem::directory_iterator(jobs(), bad))
    if (entry.is_directory(bad)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

result<std::string> runtime_folder() {
  if (const char *xdg = std::getenv("XDG_RUNTIME_DIR"); xdg != nullptr && *xdg == '/') {
    const std::string path = std::string(xdg) + "/thole";
    if (path.size() <= 64 && (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) &&
        check_private(path, reason::StateNotPrivate) && ::access(path.c_str(), W_OK | X_OK) == 0)
      return path;
  }
  const std::string path = "/tmp/thole-" + std::to_string(::geteuid());
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(reason::StateUnwritable, errno, "cannot make {} for the job's socket; set XDG_RUNTIME_DIR", path);
  THOLE_TRY(check_private(path, reason::StateNotPrivate));
  return path;
}

result<file_lock> file_lock::take(const std::string &path, bool wait) {
  file_lock lock;
  lock.fd_ = unique_fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.fd_) return fail_errno(reason::StateUnwritable, errno, "cannot open the lock {}", path);
  struct flock whole = whole_file();
  while (::fcntl(lock.fd_.get(), wait ? F_OFD_SETLKW : F_OFD_SETLK, &whole) != 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EACCES) return file_lock{};
    return fail_errno(reason::StateUnwritable, errno, "cannot lock {}", path);
  }
  return lock;
}

bool file_lock::is_held(const std::string &path) {
  const unique_fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  struct flock whole = whole_file();
  return fd && ::fcntl(fd.get(), F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

}  // namespace thole::local
