// checkpoint/container.h: writing and reading one encrypted file, a part or a manifest.
#pragma once

#include "checkpoint/keys.h"
#include "checkpoint/store.h"

namespace thole::checkpoint {

// What a manifest says of a part, and a reader compares: equal means the same bytes.
struct container_identity {
  uint64_t file_len = 0;
  uint64_t plain_len = 0;
  digest32 header_sha256{};
  digest32 root{};
  friend bool operator==(const container_identity &, const container_identity &) = default;
};

// The three keys of one file.
struct container_keys {
  secret chunk;
  nonce_bytes base{};
  digest32 header_tag{};
  digest32 header_sha256{};
  static result<container_keys> derive(const key_tree &keys, const header_bytes &header);
};

// Encrypts as bytes come, into the blocks that the file has for its chunks; plaintext is never copied.
class container_writer {
 public:
  // A new file at `path`, under keys that no other file has: `h.salt` is drawn here.
  static result<std::unique_ptr<container_writer>> create(store &files, const std::string &path, header h,
                                                          const key_tree &keys);
  result<> append(octets bytes);
  uint64_t plain_len() const noexcept { return plain_len_; }
  // Ends the data, adds the encrypted table, and makes the file durable. It has no final name yet.
  result<container_identity> finish(octets table);

 private:
  container_writer(std::unique_ptr<out_file> file, header h, container_keys keys, digest32 foot_key, gcm cipher,
                   std::string name);
  result<> begin_chunk();
  result<> end_chunk();

  std::unique_ptr<out_file> file_;
  header header_;
  header_bytes encoded_;
  container_keys keys_;
  digest32 foot_key_;
  gcm cipher_;
  std::string name_;
  octets_out chunk_;  // ciphertext, in the file's own memory
  std::size_t filled_ = 0;
  uint64_t index_ = 0;
  uint64_t plain_len_ = 0;
  std::vector<unsigned char> tags_;
};

// Reads what container_writer has written. open() authenticates header, footer and tags; each chunk is authenticated
// by its own tag when it is read.
class container_reader {
 public:
  static result<std::unique_ptr<container_reader>> open(store &files, const std::string &path, const header &expected,
                                                        const key_tree &keys);
  static result<std::unique_ptr<container_reader>> open(std::unique_ptr<in_file> file, const std::string &name,
                                                        const header &expected, const key_tree &keys);

  const header &head() const noexcept { return header_; }
  const container_identity &identity() const noexcept { return identity_; }
  const geometry &shape() const noexcept { return shape_; }

  result<std::vector<unsigned char>> table();
  // Plain bytes [offset, offset + to.size()). On failure `to` is zeroed.
  result<> read(uint64_t offset, octets_out to);
  // Every chunk and all padding. Answers the number of chunks.
  result<uint64_t> check_all();

 private:
  container_reader(std::unique_ptr<in_file> file, std::string name, header h, container_keys keys, gcm cipher)
      : file_(std::move(file)),
        name_(std::move(name)),
        header_(h),
        keys_(std::move(keys)),
        cipher_(std::move(cipher)) {}
  result<> read_frame(const key_tree &keys);
  result<> read_range(uint64_t offset, octets_out to);
  result<> open_chunk(uint64_t index, uint64_t end, unsigned char *to);
  result<> check_zeros(uint64_t from, uint64_t to, std::string_view what);
  tl::unexpected<error> damaged(std::string_view what) const noexcept;

  std::unique_ptr<in_file> file_;
  std::string name_;
  header header_;
  container_keys keys_;
  gcm cipher_;
  geometry shape_;
  container_identity identity_;
  std::vector<unsigned char> tags_;
  std::vector<unsigned char> plain_;  // the chunk that was read in part last
  uint64_t plain_index_ = UINT64_MAX;
};

// The clear and unauthenticated header of a file, for listing; empty optional if the file is not there.
result<std::optional<header>> peek_header(store &files, const std::string &path);

}  // namespace thole::checkpoint
