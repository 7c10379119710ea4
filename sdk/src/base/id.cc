#include "base/id.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include <cerrno>
#include <memory>

namespace thole {

std::array<unsigned char, 16> to_bytes(id128 id) noexcept {
  std::array<unsigned char, 16> out{};
  for (unsigned i = 0; i < 8; ++i) {
    out[i] = static_cast<unsigned char>(id.hi >> (56 - 8 * i));
    out[8 + i] = static_cast<unsigned char>(id.lo >> (56 - 8 * i));
  }
  return out;
}

id128 from_bytes(const unsigned char *bytes) noexcept {
  id128 id;
  for (unsigned i = 0; i < 8; ++i) {
    id.hi = id.hi << 8 | bytes[i];
    id.lo = id.lo << 8 | bytes[8 + i];
  }
  return id;
}

std::string to_text(id128 id) {
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", id.hi >> 32, id.hi >> 16 & 0xFFFF, id.hi & 0xFFFF,
                     id.lo >> 48, id.lo & 0xFFFFFFFFFFFFull);
}

std::optional<id128> parse_id(std::string_view text) noexcept {
  if (text.size() != 36) return std::nullopt;
  id128 id;
  for (std::size_t i = 0; i < 36; ++i) {
    const char c = text[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return std::nullopt;
      continue;
    }
    uint64_t digit = 0;
    if (c >= '0' && c <= '9') digit = static_cast<uint64_t>(c - '0');
    else if (c >= 'a' && c <= 'f') digit = static_cast<uint64_t>(c - 'a' + 10);
    else return std::nullopt;
    id.hi = id.hi << 4 | id.lo >> 60;
    id.lo = id.lo << 4 | digit;
  }
  return id;
}

result<> random_bytes(void *to, std::size_t size) noexcept {
  auto *p = static_cast<unsigned char *>(to);
  while (size > 0) {
    const ssize_t n = getrandom(p, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(reason::SystemCallFailed, errno, "getrandom failed");
    p += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

namespace {
id128 stamp(id128 id, uint64_t version) noexcept {
  id.hi = (id.hi & ~0xF000ull) | version << 12;
  id.lo = (id.lo & 0x3FFFFFFFFFFFFFFFull) | 0x8000000000000000ull;
  return id;
}
}  // namespace

result<id128> random_id() noexcept {
  unsigned char bytes[16];
  THOLE_TRY(random_bytes(bytes, sizeof bytes));
  return stamp(from_bytes(bytes), 4);
}

id128 hashed_id(std::initializer_list<std::string_view> parts) {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> md(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  unsigned char digest[EVP_MAX_MD_SIZE];
  if (!md || EVP_DigestInit_ex(md.get(), EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
  for (std::string_view part : parts) {
    const uint64_t length = part.size();
    if (EVP_DigestUpdate(md.get(), &length, sizeof length) != 1 ||
        EVP_DigestUpdate(md.get(), part.data(), part.size()) != 1)
      throw std::bad_alloc();
  }
  if (EVP_DigestFinal_ex(md.get(), digest, nullptr) != 1) throw std::bad_alloc();
  return stamp(from_bytes(digest), 8);
}

}  // namespace thole
