#include "loader/open.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

// Headers only: with the standard's file system Boost.DLL needs no library of Boost's.
#define BOOST_DLL_USE_STD_FS
#include <atomic>
#include <boost/dll/shared_library.hpp>
#include <cerrno>
#include <memory>
#include <type_traits>

#include "base/id.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

namespace thole::loader {
namespace {

// A memory file that nothing can change any more. Empty where the system forbids to execute such files.
result<unique_fd> sealed_copy(const std::string &bytes, const std::string &name) {
  const std::string label = name.substr(0, 200);
  int fd = ::memfd_create(label.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  // Kernels before 6.3 do not know the flag, and need none.
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(label.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 && (errno == EACCES || errno == EPERM || errno == ENOSYS)) return unique_fd();
  if (fd < 0) return fail_errno(reason::PluginLoadFailed, errno, "cannot make a memory file for {}", name);
  unique_fd copy(fd);
  THOLE_TRY(write_all(fd, bytes.data(), bytes.size(), name));
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return fail_errno(reason::PluginLoadFailed, errno, "cannot seal the memory file of {}", name);
  return copy;
}

// A spelling of /proc/self/fd/N that no library of this process was loaded by before. The dynamic linker takes a
// library for loaded when it knows one of the same path, and descriptor numbers come again: with the plain spelling a
// second plugin would be answered with the first. So 64 random bits are spelt in what a path ignores: "/" and "/.".
result<std::string> fresh_path(int fd) {
  uint64_t salt = 0;
  THOLE_TRY(random_bytes(&salt, sizeof salt));
  std::string path = "/proc/self";
  for (int bit = 0; bit < 64; ++bit) path += (salt >> bit & 1) != 0 ? "/." : "/";
  return path + "/fd/" + std::to_string(fd);
}

// What is mapped. A list that only grows, without a lock: one that another thread held at a fork would stay shut in the
// child, which may open a core of its own.
struct mapped {
  std::string digest;
  boost::dll::shared_library library;
  thole_plugin_entry_v1_fn entry = nullptr;
  mapped *next = nullptr;
};
std::atomic<mapped *> all_mapped{nullptr};

thole_plugin_entry_v1_fn find_mapped(const std::string &digest) noexcept {
  for (const mapped *m = all_mapped.load(std::memory_order_acquire); m != nullptr; m = m->next)
    if (m->digest == digest) return m->entry;
  return nullptr;
}

result<> load(boost::dll::shared_library &library, const std::string &path, const std::string &name) {
  // Boost.DLL passes the linker's own flags through; it has no name for RTLD_NODELETE.
  constexpr auto mode = static_cast<boost::dll::load_mode::type>(RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  boost::dll::fs::error_code failed;
  library.load(path, failed, mode);
  if (!failed && library.is_loaded()) return {};
  // Boost's code says less than the linker's own words, which begin with the path.
  const char *words = ::dlerror();
  std::string text = words == nullptr ? failed.message() : words;
  if (const std::size_t at = text.find(path); at != std::string::npos) text.replace(at, path.size(), name);
  return fail(reason::PluginLoadFailed, "the dynamic linker refuses {}: {}", name, text);
}

}  // namespace

result<thole_plugin_entry_v1_fn> map_library(const trusted_file &file, const std::string &digest,
                                             const std::string &name) {
  if (const thole_plugin_entry_v1_fn known = find_mapped(digest)) return known;
  THOLE_LET(const unique_fd copy, sealed_copy(file.bytes, name));
  if (!copy && !file.unchangeable)
    return fail(
        reason::PluginLoadFailed,
        "this system forbids to execute memory files (vm.memfd_noexec), and others than root can change {}: let "
        "root own it",
        name);
  THOLE_LET(const std::string path, fresh_path(copy ? copy.get() : file.fd.get()));
  auto m = std::make_unique<mapped>();
  m->digest = digest;
  THOLE_TRY(load(m->library, path, name));
  // The symbol table has it; a hash table that was tampered with may lead nowhere all the same.
  if (!m->library.has(THOLE_PLUGIN_ENTRY_SYMBOL))
    return fail(reason::PluginSymbolMissing, "the dynamic linker does not find {} in {}: build it again",
                THOLE_PLUGIN_ENTRY_SYMBOL, name);
  m->entry = &m->library.get<std::remove_pointer_t<thole_plugin_entry_v1_fn>>(THOLE_PLUGIN_ENTRY_SYMBOL);
  m->next = all_mapped.load(std::memory_order_relaxed);
  while (!all_mapped.compare_exchange_weak(m->next, m.get(), std::memory_order_release)) {
  }
  return m.release()->entry;
}

}  // namespace thole::loader
