// base/file.h: descriptors and whole files, with the durability that the name of each function says.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace thole {

// Owns a descriptor. Always close-on-exec: a host that forks and executes must not hand ours on.
class unique_fd {
 public:
  unique_fd() = default;
  explicit unique_fd(int fd) noexcept : fd_(fd) {}
  unique_fd(unique_fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  unique_fd &operator=(unique_fd &&other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~unique_fd() { reset(); }
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

result<unique_fd> open_file(const std::string &path, int flags, mode_t mode = 0600);
result<std::string> read_all(int fd, std::size_t most, const std::string &name);
result<std::string> read_file(const std::string &path, std::size_t most);
result<> write_all(int fd, const void *data, std::size_t size, const std::string &name);

// Makes the last component (and its parents) with mode 0700 if it is missing.
result<> make_folder(const std::string &path);

// fsync of a folder, which makes names in it durable.
result<> sync_folder(const std::string &path);

// Old or new, never between, and durable: a temporary beside it, fsync, rename, fsync of the folder.
result<> replace_file(const std::string &path, std::string_view content, mode_t mode = 0600);

// The path from the root, so that a later chdir of the host changes nothing; empty stays empty.
result<std::string> absolute(std::string_view path);

// A path cut at its last slash: {"/a", "b"}; without a slash {".", path}.
std::pair<std::string, std::string> split_path(const std::string &path);

}  // namespace thole
