// The store as a folder of a file system.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/file.h"
#include "checkpoint/posix_file.h"

namespace thole::checkpoint {
namespace {

class posix final : public store {
 public:
  explicit posix(std::string folder) : root_(std::move(folder)) {
    while (root_.size() > 1 && root_.ends_with('/')) root_.pop_back();
  }

  std::string place(const std::string &path) const override {
    if (path.empty()) return root_;
    if (path == "..") return split_path(root_).first;
    return root_ + "/" + path;
  }

  result<bool> is_there() override {
    struct stat s {};
    if (::stat(root_.c_str(), &s) == 0) return S_ISDIR(s.st_mode) != 0;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return refused(errno, "look at", root_);
  }

  result<> make_folder(const std::string &path) override {
    const std::string at = place(path);
    if (::mkdir(at.c_str(), 0700) == 0 || errno == EEXIST) return {};
    // Only the store's own folder may lack parents: those of what is in it were made before.
    if (errno != ENOENT || !path.empty()) return refused(errno, "make the folder", at);
    THOLE_TRY(make_parents(split_path(at).first));
    if (::mkdir(at.c_str(), 0700) == 0 || errno == EEXIST) return {};
    return refused(errno, "make the folder", at);
  }

  result<> sync_folder(const std::string &path) override {
    const std::string at = place(path);
    const unique_fd fd(::open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) {
      // A store's parent that we may use but not read (mode 711) cannot be synced by us.
      if (path == ".." && errno == EACCES) return {};
      return refused(errno, "open the folder", at);
    }
    if (::fsync(fd.get()) == 0) return {};
    if (path == ".." && (errno == EROFS || errno == EINVAL)) return {};  // the store is a mount point in it
    return refused(errno, "sync the folder", at);
  }

  result<std::unique_ptr<out_file>> create(const std::string &path) override {
    const std::string at = place(path);
    unique_fd fd(::open(at.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return refused(errno, "make", at);
    return posix_out(std::move(fd), at);
  }

  result<std::unique_ptr<in_file>> open(const std::string &path) override {
    const std::string at = place(path);
    unique_fd fd(::open(at.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd) {
      if (errno == ENOENT || errno == ENOTDIR) return std::unique_ptr<in_file>{};
      return refused(errno, "open", at);
    }
    struct stat s {};
    if (::fstat(fd.get(), &s) != 0) return refused(errno, "look at", at);
    if (!S_ISREG(s.st_mode)) return fail(reason::CheckpointDamaged, "{} is not a regular file", at);
    return posix_in(std::move(fd), at, static_cast<uint64_t>(s.st_size));
  }

  result<bool> publish(const std::string &from, const std::string &to) override {
    const std::string a = place(from);
    const std::string b = place(to);
    if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_NOREPLACE) == 0) return true;
    if (errno == EEXIST) return false;
    if (errno != EINVAL && errno != ENOSYS) return refused(errno, "publish", b);
    // A file system without that flag (NFS): a link never replaces either.
    if (::link(a.c_str(), b.c_str()) != 0) {
      if (errno == EEXIST) return false;
      return refused(errno, "publish", b);
    }
    static_cast<void>(::unlink(a.c_str()));
    return true;
  }

  result<> remove(const std::string &path) override {
    const std::string at = place(path);
    if (::unlink(at.c_str()) == 0 || errno == ENOENT) return {};
    return refused(errno, "remove", at);
  }

  result<> remove_folder(const std::string &path) override {
    const std::string at = place(path);
    if (::rmdir(at.c_str()) == 0 || errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST) return {};
    return refused(errno, "remove", at);
  }

  result<std::vector<store_entry>> list(const std::string &path) override {
    const std::string at = place(path);
    std::vector<store_entry> out;
    DIR *d = ::opendir(at.c_str());
    if (d == nullptr) {
      if (errno == ENOENT) return out;
      return refused(errno, "read the folder", at);
    }
    const std::unique_ptr<DIR, int (*)(DIR *)> closing(d, ::closedir);
    errno = 0;
    while (const dirent *e = ::readdir(d)) {
      const std::string_view name(e->d_name);
      if (name == "." || name == "..") continue;
      bool folder = e->d_type == DT_DIR;
      if (e->d_type == DT_UNKNOWN) {
        struct stat s {};
        folder = ::lstat((at + "/" + e->d_name).c_str(), &s) == 0 && S_ISDIR(s.st_mode);
      }
      out.push_back({std::string(name), folder});
      errno = 0;
    }
    if (errno != 0) return refused(errno, "read the folder", at);
    std::sort(out.begin(), out.end(), [](const auto &a, const auto &b) { return a.name < b.name; });
    return out;
  }

 private:
  // Parents that are made are made durable: nobody else will.
  result<> make_parents(const std::string &at) {
    if (::mkdir(at.c_str(), 0700) != 0) {
      if (errno == EEXIST) return {};
      const std::string parent = split_path(at).first;
      if (errno != ENOENT || parent == at) return refused(errno, "make the folder", at);
      THOLE_TRY(make_parents(parent));
      if (::mkdir(at.c_str(), 0700) != 0 && errno != EEXIST) return refused(errno, "make the folder", at);
    }
    if (auto synced = thole::sync_folder(split_path(at).first); !synced && synced.error().os_errno != EACCES)
      return synced;
    return {};
  }

  std::string root_;
};

}  // namespace

std::unique_ptr<store> posix_store(std::string folder) {
  return std::make_unique<posix>(std::move(folder));
}

}  // namespace thole::checkpoint
