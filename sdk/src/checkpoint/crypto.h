// checkpoint/crypto.h: OpenSSL, with every return code looked at.
#pragma once

#include <openssl/evp.h>

#include <initializer_list>
#include <memory>

#include "base/status.h"
#include "checkpoint/format.h"
#include "checkpoint/octets.h"

namespace thole::checkpoint {

result<digest32> sha256(std::initializer_list<octets> parts);
result<digest32> hmac_sha256(octets key, octets data);

// RFC 5869 with SHA-256.
result<digest32> hkdf_extract(octets salt, octets key_material);
result<> hkdf_expand(octets prk, octets info, octets_out to);

// In constant time.
bool equal(octets a, octets b) noexcept;

// AES-256-GCM with 96-bit nonces, message after message under one key, each in as many pieces as the caller likes.
class gcm {
 public:
  enum class direction { seal, open };
  static result<gcm> make(direction way, octets key);

  result<> begin(const nonce_bytes &nonce, octets aad);
  result<> absorb(octets aad);  // more of what is authenticated only
  result<> update(const unsigned char *from, unsigned char *to, std::size_t size);
  result<> seal(octets_out tag);  // ends a message
  result<bool> open(octets tag);  // ends a message: whether it is authentic

 private:
  struct freer {
    void operator()(EVP_CIPHER_CTX *c) const noexcept { EVP_CIPHER_CTX_free(c); }
  };
  explicit gcm(EVP_CIPHER_CTX *c, direction way) noexcept : context_(c), way_(way) {}
  std::unique_ptr<EVP_CIPHER_CTX, freer> context_;
  direction way_;
};

// SHA-256 in pieces.
class hasher {
 public:
  static result<hasher> make();
  result<> update(octets bytes);
  result<digest32> finish();

 private:
  struct freer {
    void operator()(EVP_MD_CTX *c) const noexcept { EVP_MD_CTX_free(c); }
  };
  explicit hasher(EVP_MD_CTX *c) noexcept : context_(c) {}
  std::unique_ptr<EVP_MD_CTX, freer> context_;
};

}  // namespace thole::checkpoint
