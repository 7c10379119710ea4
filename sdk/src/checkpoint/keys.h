// checkpoint/keys.h: from the key that a person keeps to the keys of one file.
//
//     key file or helper  --wraps-->  run key  --wraps-->  checkpoint key  --HKDF-->  keys of each part and manifest
//
// Run and checkpoint keys are random, and stored only wrapped, in KEYSLOTS. So the helper is asked once for each call
// of the service, and changing the outer key later touches one small file a run and no data.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/crypto.h"
#include "checkpoint/secret.h"

namespace thole::checkpoint {

// Where the outer key is. Holds no secret.
struct key_source {
  bool helper = false;
  std::string path;
  std::vector<std::string> arguments;
};

// Writes a new key file, mode 0600. Never overwrites.
result<> write_new_key(const std::string &path);

// A key and what is derived from it for one run, or one checkpoint of it.
class key_tree {
 public:
  key_tree() = default;
  static result<key_tree> make(octets key, id128 run, id128 checkpoint);
  // HKDF-Expand with the label "thole.ckpt/v1 NAME", a zero byte and `context`.
  result<> derive(std::string_view name, octets context, octets_out to) const;
  result<digest32> mac(std::string_view name, octets data) const;  // HMAC under the key of that name

 private:
  explicit key_tree(secret prk) noexcept : prk_(std::move(prk)) {}
  secret prk_;
};

// The outer key's two operations. `name` says for people and helpers what is wrapped; `bound` must be equal in both.
struct wrapped_key {
  wrap_kind kind = wrap_kind::gcm;
  std::string bytes;
};
result<wrapped_key> wrap(const key_source &source, const secret &key, id128 run);
result<secret> unwrap(const key_source &source, const wrapped_key &wrapped, id128 run);

// The same under a run's key.
result<wrapped_key> wrap(const key_tree &run_keys, const secret &key, id128 run, id128 checkpoint);
result<secret> unwrap(const key_tree &run_keys, const wrapped_key &wrapped, id128 run, id128 checkpoint);

}  // namespace thole::checkpoint
