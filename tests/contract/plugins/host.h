// What the tests of plugins share: a folder of their own, manifests, and a core as a host has it.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <thole/draft/device.h>
#include <thole/thole.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace host {

namespace fs = std::filesystem;

inline const thole_root *root() {
  static const thole_root *const found = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr);
  return found;
}

inline std::string text(thole_str s) {
  return s.len == 0 ? std::string() : std::string(s.data, s.len);
}
inline thole_str str(std::string_view s) {
  return {s.data(), s.size()};
}

inline std::string read(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write(const fs::path &path, std::string_view bytes, mode_t mode = 0644) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ::chmod(path.c_str(), mode);
}

inline std::string sha256(std::string_view bytes) {
  unsigned char digest[32];
  EVP_Digest(bytes.data(), bytes.size(), digest, nullptr, EVP_sha256(), nullptr);
  std::string out;
  for (unsigned char c : digest) out += "0123456789abcdef"[c >> 4], out += "0123456789abcdef"[c & 15];
  return out;
}

// A folder that only we may write, removed at the end.
class folder {
 public:
  folder() {
    const char *base = std::getenv("TMPDIR");
    std::string pattern = std::string(base == nullptr ? "/tmp" : base) + "/thole-plugins-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  fs::path operator/(const std::string &name) const { return path_ / name; }
  const fs::path &path() const { return path_; }

 private:
  fs::path path_;
};

struct manifest {
  std::string id = "org.example.specimen";
  std::string abi = std::to_string(THOLE_ABI_MAJOR) + "." + std::to_string(THOLE_ABI_MINOR);
  std::string library = "specimen.so";
#if defined(__x86_64__)
  std::string machine = "x86_64";
#else
  std::string machine = "aarch64";
#endif
  std::string sha256;
  std::string more;

  std::string yaml() const {
    return "apiVersion: thole.dev/v1alpha1\nkind: Plugin\nid: " + id +
           "\nprovides: device\nversion: \"1.0.0\"\nabi: \"" + abi + "\"\nlibrary: " + library +
           "\nmachine: " + machine + "\nsha256: \"" + sha256 + "\"\n" + more;
  }
};

struct seen {
  std::string id, reason, message;
};

// A core, and the status of its last call.
class core {
 public:
  explicit core(const thole_core_options *options = nullptr) {
    status = {};
    status.struct_size = sizeof status;
    code = root()->core->open(options, &handle, &status);
  }
  ~core() {
    if (handle.v != 0) root()->core->close(handle, nullptr);
  }
  thole_code load(const fs::path &folder) {
    clear();
    const std::string path = folder.string();
    return code = root()->core->load(handle, str(path), &status);
  }
  thole_code close() {
    clear();
    code = root()->core->close(handle, &status);
    handle = {};
    return code;
  }
  std::vector<seen> plugins() {
    clear();
    thole_plugin_list list{};
    list.struct_size = sizeof list;
    thole_buffer room{memory_.data(), memory_.size() * 8, 0};
    code = root()->core->plugins(handle, &list, &room, &status);
    std::vector<seen> out;
    for (uint64_t i = 0; code == THOLE_OK && i < list.plugins.count; ++i) {
      const auto *p = THOLE_AT(list.plugins, thole_plugin_info, i);
      out.push_back({text(p->id), text(p->reason), text(p->message)});
    }
    return out;
  }
  // The answer lies in the core's own memory until the next call.
  std::vector<thole_gpu> gpus(std::string_view plugin, std::string_view options) {
    clear();
    thole_gpu_list list{};
    list.struct_size = sizeof list;
    thole_buffer room{memory_.data(), memory_.size() * 8, 0};
    code = root()->device->list(handle, str(plugin), str(options), &list, &room, &status);
    std::vector<thole_gpu> out;
    for (uint64_t i = 0; code == THOLE_OK && i < list.gpus.count; ++i)
      out.push_back(*THOLE_AT(list.gpus, thole_gpu, i));
    return out;
  }
  std::string reason() const { return status.reason; }

  thole_core handle{};
  thole_status status{};
  thole_code code = THOLE_OK;

 private:
  void clear() {
    status = {};
    status.struct_size = sizeof status;
  }
  std::vector<uint64_t> memory_ = std::vector<uint64_t>(32768);
};

#ifdef THOLE_SPECIMENS
inline std::string specimen(const std::string &name) {
  return read(fs::path(THOLE_SPECIMENS) / (name + ".so"));
}

// Puts a specimen and its manifest into a folder.
inline void install(const folder &to, const std::string &name, manifest m = {}) {
  const std::string bytes = specimen(name);
  write(to / m.library, bytes);
  if (m.sha256.empty()) m.sha256 = sha256(bytes);
  write(to / (m.id + ".yaml"), m.yaml());
}
#endif

}  // namespace host
