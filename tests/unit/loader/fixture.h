// What the tests of the loader share: a folder of their own, and libraries that are wrong in one way each.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thole::loader {

// The bytes of a specimen of tests/contract/plugins.
inline std::string specimen(const std::string &name) {
  std::ifstream in(std::filesystem::path(THOLE_SPECIMENS) / (name + ".so"), std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  EXPECT_GT(bytes.size(), 4096u) << name << " is not there";
  return bytes;
}

inline std::span<const unsigned char> raw(std::string_view bytes) {
  return {reinterpret_cast<const unsigned char *>(bytes.data()), bytes.size()};
}

// "good", or the reason.
template <class T>
std::string answer(const result<T> &r) {
  return r ? "good" : std::string(name_of(r.error().why));
}

// A folder that only we may write, gone with its end. Its path has no symbolic link in it.
struct folder {
  std::string path;
  folder() {
    std::string pattern = std::filesystem::canonical(std::filesystem::temp_directory_path()) / "thole-loader.XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path = pattern;
  }
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  folder(const folder &) = delete;
  folder &operator=(const folder &) = delete;

  std::string write(const std::string &name, std::string_view bytes, mode_t mode = 0644) const {
    const std::string to = path + "/" + name;
    std::ofstream(to, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    EXPECT_EQ(::chmod(to.c_str(), mode), 0);
    return to;
  }
};

}  // namespace thole::loader
