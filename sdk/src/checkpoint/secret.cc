#include "checkpoint/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/id.h"

namespace thole::checkpoint {
namespace {
constexpr std::size_t mapped = 4096;
}

result<secret> secret::make() {
  void *page = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return fail_errno(reason::OutOfMemory, errno, "cannot map a page for a key");
  // Each of these is a best effort: RLIMIT_MEMLOCK may be 0, and a key that can be swapped still is a key.
  static_cast<void>(mlock(page, mapped));
  static_cast<void>(madvise(page, mapped, MADV_DONTDUMP));
  static_cast<void>(madvise(page, mapped, MADV_WIPEONFORK));
  secret s;
  s.bytes_ = static_cast<unsigned char *>(page);
  return s;
}

result<secret> secret::random() {
  THOLE_LET(secret s, make());
  THOLE_TRY(random_bytes(s.bytes_, size));
  return s;
}

result<secret> secret::copy(octets bytes) {
  if (bytes.size() != size) return fail(reason::Defect, "a key of {} bytes", bytes.size());
  THOLE_LET(secret s, make());
  std::memcpy(s.bytes_, bytes.data(), size);
  return s;
}

void secret::drop() noexcept {
  if (bytes_ == nullptr) return;
  OPENSSL_cleanse(bytes_, size);
  munmap(bytes_, mapped);
  bytes_ = nullptr;
}

}  // namespace thole::checkpoint
