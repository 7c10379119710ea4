// base/files.h: descriptors, whole files and folders, with the durability that the name of each function says.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/problem.h"

namespace thole::local {

// Owns a descriptor. Always close-on-exec: ranks get what they are given and nothing else.
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

result<std::string> read_file(const std::string &path, std::size_t most);
bool exists(const std::string &path);

// Old or new, never between, and durable: a temporary beside it, fsync, rename, fsync of the folder.
result<> replace_file(const std::string &path, std::string_view content);

// A folder that its owner alone may enter, made (with its parents) if it is missing; one that is there stays as it is.
// Fails: StateUnwritable.
result<> make_private_folder(const std::string &path);

// Deletes a folder with all that is in it, as far as it can be.
void remove_tree(const std::string &path) noexcept;

std::string absolute_path(const std::string &path);
std::string folder_of(const std::string &path);

}  // namespace thole::local
