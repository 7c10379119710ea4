#include "checkpoint/crypto.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace thole::checkpoint {
namespace {

// EVP takes int: longer data go in pieces.
constexpr std::size_t most_at_once = std::size_t{1} << 30;

tl::unexpected<error> refused(std::string_view what) noexcept {
  return fail(reason::Defect, "OpenSSL refused {}", what);
}

}  // namespace

result<hasher> hasher::make() {
  hasher h(EVP_MD_CTX_new());
  if (!h.context_ || EVP_DigestInit_ex(h.context_.get(), EVP_sha256(), nullptr) != 1) return refused("SHA-256");
  return h;
}
result<> hasher::update(octets bytes) {
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1) return refused("SHA-256");
  return {};
}
result<digest32> hasher::finish() {
  digest32 out;
  unsigned size = 0;
  if (EVP_DigestFinal_ex(context_.get(), out.data(), &size) != 1 || size != out.size()) return refused("SHA-256");
  return out;
}

result<digest32> sha256(std::initializer_list<octets> parts) {
  THOLE_LET(hasher h, hasher::make());
  for (octets part : parts) THOLE_TRY(h.update(part));
  return h.finish();
}

result<digest32> hmac_sha256(octets key, octets data) {
  if (key.size() > most_at_once) return fail(reason::OverBound, "an HMAC key of {} bytes", key.size());
  static constexpr unsigned char none = 0;  // HMAC takes a NULL key for "the one before"
  digest32 out;
  unsigned size = 0;
  if (HMAC(EVP_sha256(), key.empty() ? &none : key.data(), static_cast<int>(key.size()),
           data.empty() ? &none : data.data(), data.size(), out.data(), &size) == nullptr ||
      size != out.size())
    return refused("HMAC-SHA-256");
  return out;
}

result<digest32> hkdf_extract(octets salt, octets key_material) {
  return hmac_sha256(salt, key_material);
}

result<> hkdf_expand(octets prk, octets info, octets_out to) {
  if (to.size() > 255 * 32) return fail(reason::OverBound, "HKDF gives at most 8160 bytes, {} are wanted", to.size());
  std::vector<unsigned char> block;
  digest32 previous{};
  unsigned char counter = 0;
  result<> done{};
  for (std::size_t at = 0; at < to.size() && done; at += previous.size()) {
    block.clear();
    if (counter > 0) block.insert(block.end(), previous.begin(), previous.end());
    block.insert(block.end(), info.begin(), info.end());
    block.push_back(++counter);
    auto next = hmac_sha256(prk, block);
    if (!next) {
      done = tl::unexpected(next.error());
      break;
    }
    previous = *next;
    OPENSSL_cleanse(next->data(), next->size());
    std::memcpy(to.data() + at, previous.data(), std::min(previous.size(), to.size() - at));
  }
  OPENSSL_cleanse(previous.data(), previous.size());
  OPENSSL_cleanse(block.data(), block.size());
  return done;
}

bool equal(octets a, octets b) noexcept {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

result<gcm> gcm::make(direction way, octets key) {
  if (key.size() != 32) return fail(reason::Defect, "an AES-256 key has 32 bytes, not {}", key.size());
  gcm out(EVP_CIPHER_CTX_new(), way);
  if (!out.context_ || EVP_CipherInit_ex(out.context_.get(), EVP_aes_256_gcm(), nullptr, key.data(), nullptr,
                                         way == direction::seal ? 1 : 0) != 1)
    return refused("AES-256-GCM");
  return out;
}

result<> gcm::begin(const nonce_bytes &nonce, octets aad) {
  if (EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, nonce.data(), -1) != 1) return refused("a nonce");
  return absorb(aad);
}

result<> gcm::absorb(octets aad) {
  while (!aad.empty()) {
    const std::size_t n = std::min(aad.size(), most_at_once);
    int written = 0;
    if (EVP_CipherUpdate(context_.get(), nullptr, &written, aad.data(), static_cast<int>(n)) != 1)
      return refused("additional data");
    aad = aad.subspan(n);
  }
  return {};
}

result<> gcm::update(const unsigned char *from, unsigned char *to, std::size_t size) {
  while (size > 0) {
    const std::size_t n = std::min(size, most_at_once);
    int written = 0;
    if (EVP_CipherUpdate(context_.get(), to, &written, from, static_cast<int>(n)) != 1 ||
        written != static_cast<int>(n))
      return refused("a piece of data");
    from += n;
    to += n;
    size -= n;
  }
  return {};
}

result<> gcm::seal(octets_out tag) {
  unsigned char none[16];
  int written = 0;
  if (way_ != direction::seal || tag.size() != tag_size || EVP_CipherFinal_ex(context_.get(), none, &written) != 1 ||
      written != 0 || EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, tag_size, tag.data()) != 1)
    return refused("to end a message");
  return {};
}

result<bool> gcm::open(octets tag) {
  unsigned char expected[tag_size];
  if (way_ != direction::open || tag.size() != tag_size) return refused("to end a message");
  std::memcpy(expected, tag.data(), tag_size);
  if (EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_SET_TAG, tag_size, expected) != 1) return refused("a tag");
  unsigned char none[16];
  int written = 0;
  return EVP_CipherFinal_ex(context_.get(), none, &written) == 1;
}

}  // namespace thole::checkpoint
