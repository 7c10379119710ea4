#include "checkpoint/keys.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "checkpoint/key_program.h"
#include "checkpoint/posix_file.h"

namespace thole::checkpoint {
namespace {

constexpr std::string_view key_prefix = "thole-key-1 ";
constexpr std::size_t key_payload = 36;  // 32 of key and 4 of its SHA-256
constexpr std::size_t key_text = 48;     // base64 of that, without padding
constexpr std::size_t gcm_wrapped = 12 + secret::size + tag_size;

// A std::string or array that held key material.
struct wiped {
  octets_out bytes;
  ~wiped() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
};

result<> check_private(int fd, const std::string &path) {
  struct stat s {};
  if (fstat(fd, &s) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot look at the key file {}", path);
  if (!S_ISREG(s.st_mode)) return fail(reason::KeyBad, "{} is not a regular file", path);
  if ((s.st_mode & 077) != 0)
    return fail(reason::KeyNotPrivate, "the key file {} has mode {:o}: chmod 600 it", path, s.st_mode & 0777);
  if (s.st_uid != geteuid() && s.st_uid != 0 && geteuid() != 0)
    return fail(reason::KeyNotPrivate, "the key file {} belongs to uid {}, not to you: copy it to a file of your own",
                path, s.st_uid);
  return {};
}

result<secret> read_key_file(const std::string &path) {
  auto opened = open_file(path, O_RDONLY | O_NONBLOCK);
  if (!opened) {
    const int e = opened.error().os_errno;
    if (e == ENOENT || e == ENOTDIR)
      return fail_errno(reason::KeyMissing, e, "cannot open the key file {}: make one with `thole key new`", path);
    return fail_errno(reason::KeyNotPrivate, e, "cannot open the key file {}", path);
  }
  THOLE_TRY(check_private(opened->get(), path));
  unsigned char text[key_prefix.size() + key_text + 2];
  wiped text_end{text};
  const ssize_t n = ::read(opened->get(), text, sizeof text);
  if (n < 0) return fail_errno(reason::KeyMissing, errno, "cannot read the key file {}", path);
  std::size_t size = static_cast<std::size_t>(n);
  if (size > 0 && size <= sizeof text && text[size - 1] == '\n') --size;
  unsigned char payload[key_payload];
  wiped payload_end{payload};
  if (size != key_prefix.size() + key_text || std::memcmp(text, key_prefix.data(), key_prefix.size()) != 0 ||
      EVP_DecodeBlock(payload, text + key_prefix.size(), key_text) != static_cast<int>(key_payload))
    return fail(reason::KeyBad, "{} is not a Thole key: make one with `thole key new`", path);
  THOLE_LET(const digest32 sum, sha256({octets(payload, secret::size)}));
  if (!equal(octets(sum).first(4), octets(payload).subspan(secret::size)))
    return fail(reason::KeyBad, "the key in {} is mistyped: its checksum is wrong", path);
  return secret::copy(octets(payload, secret::size));
}

std::string wrap_aad(id128 run, id128 checkpoint) {
  std::string aad = "thole.ckpt/v1 wrap";
  aad.push_back('\0');
  const auto r = to_bytes(run);
  const auto c = to_bytes(checkpoint);
  return aad.append(text_of(r)).append(text_of(c));
}

result<std::string> gcm_wrap(octets wrapping, const secret &key, const std::string &aad) {
  unsigned char out[gcm_wrapped];
  nonce_bytes nonce;
  THOLE_TRY(random_bytes(nonce.data(), nonce.size()));
  std::memcpy(out, nonce.data(), nonce.size());
  THOLE_LET(gcm g, gcm::make(gcm::direction::seal, wrapping));
  THOLE_TRY(g.begin(nonce, octets_of(aad)));
  THOLE_TRY(g.update(key.view().data(), out + nonce.size(), secret::size));
  THOLE_TRY(g.seal(octets_out(out).last(tag_size)));
  return std::string(text_of(out));
}

result<secret> gcm_unwrap(octets wrapping, std::string_view wrapped, const std::string &aad) {
  if (wrapped.size() != gcm_wrapped) return fail(reason::CheckpointDamaged, "a wrapped key has the wrong length");
  const octets in = octets_of(wrapped);
  nonce_bytes nonce;
  std::memcpy(nonce.data(), in.data(), nonce.size());
  THOLE_LET(secret key, secret::make());
  THOLE_LET(gcm g, gcm::make(gcm::direction::open, wrapping));
  THOLE_TRY(g.begin(nonce, octets_of(aad)));
  THOLE_TRY(g.update(in.data() + nonce.size(), key.room().data(), secret::size));
  THOLE_LET(const bool authentic, g.open(in.last(tag_size)));
  if (!authentic) return fail(reason::KeyWrong, "the key does not open this store: use the one it was written with");
  return key;
}

// What wraps, out of the key file's key: never that key itself, so that one use of it cannot serve another.
result<secret> file_wrapping_key(const std::string &path) {
  THOLE_LET(const secret key, read_key_file(path));
  THOLE_LET(digest32 prk, hkdf_extract(octets_of("thole.ckpt/v1 key file"), key.view()));
  wiped prk_end{prk};
  THOLE_LET(secret out, secret::make());
  static constexpr std::string_view label{"thole.ckpt/v1 wrap\0", 19};
  THOLE_TRY(hkdf_expand(prk, octets_of(label), out.room()));
  return out;
}

}  // namespace

result<> write_new_key(const std::string &path) {
  unsigned char payload[key_payload];
  unsigned char text[key_text + 1];
  wiped payload_end{payload};
  wiped text_end{text};
  THOLE_TRY(random_bytes(payload, secret::size));
  THOLE_LET(const digest32 sum, sha256({octets(payload, secret::size)}));
  std::memcpy(payload + secret::size, sum.data(), 4);
  if (EVP_EncodeBlock(text, payload, key_payload) != static_cast<int>(key_text))
    return fail(reason::Defect, "base64 of a key has an unexpected length");
  text[key_text] = '\n';
  auto opened = open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!opened) {
    const int e = opened.error().os_errno;
    if (e == EEXIST || e == ELOOP)
      return fail_errno(reason::KeyExists, e, "{} is there already; keys are never overwritten", path);
    return refused(e, "make", path);
  }
  auto write = [&]() -> result<> {
    THOLE_TRY(write_all(opened->get(), key_prefix.data(), key_prefix.size(), path));
    THOLE_TRY(write_all(opened->get(), text, sizeof text, path));
    if (::fchmod(opened->get(), 0600) != 0 || ::fsync(opened->get()) != 0)
      return fail_errno(reason::SystemCallFailed, errno, "cannot make {} durable", path);
    return sync_folder(split_path(path).first);
  };
  auto done = write();
  if (!done) ::unlink(path.c_str());
  return done;
}

result<key_tree> key_tree::make(octets key, id128 run, id128 checkpoint) {
  std::array<unsigned char, 32> salt;
  const auto c = to_bytes(checkpoint);
  const auto r = to_bytes(run);
  std::memcpy(salt.data(), c.data(), 16);
  std::memcpy(salt.data() + 16, r.data(), 16);
  THOLE_LET(digest32 prk, hkdf_extract(salt, key));
  wiped prk_end{prk};
  THOLE_LET(secret kept, secret::copy(prk));
  return key_tree(std::move(kept));
}

result<> key_tree::derive(std::string_view name, octets context, octets_out to) const {
  std::string info = "thole.ckpt/v1 ";
  info.append(name).push_back('\0');
  info.append(text_of(context));
  return hkdf_expand(prk_.view(), octets_of(info), to);
}

result<digest32> key_tree::mac(std::string_view name, octets data) const {
  digest32 key;
  wiped key_end{key};
  THOLE_TRY(derive(name, {}, key));
  return hmac_sha256(key, data);
}

result<wrapped_key> wrap(const key_source &source, const secret &key, id128 run) {
  if (source.helper) {
    THOLE_LET(std::string opaque, helper_wrap(source, run, key));
    return wrapped_key{wrap_kind::helper, std::move(opaque)};
  }
  THOLE_LET(const secret outer, file_wrapping_key(source.path));
  THOLE_LET(std::string bytes, gcm_wrap(outer.view(), key, wrap_aad(run, {})));
  return wrapped_key{wrap_kind::gcm, std::move(bytes)};
}

result<secret> unwrap(const key_source &source, const wrapped_key &wrapped, id128 run) {
  const bool by_helper = wrapped.kind == wrap_kind::helper;
  if (source.helper != by_helper)
    return fail(reason::KeyWrong, "this run's key was wrapped by {}, and {} was given",
                by_helper ? "a helper" : "a key file", source.helper ? "a helper" : "a key file");
  if (source.helper) return helper_unwrap(source, run, wrapped.bytes);
  THOLE_LET(const secret outer, file_wrapping_key(source.path));
  return gcm_unwrap(outer.view(), wrapped.bytes, wrap_aad(run, {}));
}

result<wrapped_key> wrap(const key_tree &run_keys, const secret &key, id128 run, id128 checkpoint) {
  THOLE_LET(secret wrapping, secret::make());
  THOLE_TRY(run_keys.derive("wrap", {}, wrapping.room()));
  THOLE_LET(std::string bytes, gcm_wrap(wrapping.view(), key, wrap_aad(run, checkpoint)));
  return wrapped_key{wrap_kind::gcm, std::move(bytes)};
}

result<secret> unwrap(const key_tree &run_keys, const wrapped_key &wrapped, id128 run, id128 checkpoint) {
  if (wrapped.kind != wrap_kind::gcm)
    return fail(reason::CheckpointDamaged, "a checkpoint's key is wrapped by a helper");
  THOLE_LET(secret wrapping, secret::make());
  THOLE_TRY(run_keys.derive("wrap", {}, wrapping.room()));
  return gcm_unwrap(wrapping.view(), wrapped.bytes, wrap_aad(run, checkpoint));
}

}  // namespace thole::checkpoint
