#include "checkpoint/container.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>

namespace thole::checkpoint {
namespace {

// root = SHA-256(label 0 || header || header tag || chunks || plain length || table length || all tags)
result<digest32> root_of(const header_bytes &head, const digest32 &tag, const geometry &g, octets tags) {
  static constexpr std::string_view label{"thole.ckpt/v1 root\0", 19};
  unsigned char numbers[24];
  put_le(numbers, g.chunks);
  put_le(numbers + 8, g.plain_len);
  put_le(numbers + 16, g.table_len);
  return sha256({octets_of(label), head, tag, numbers, tags});
}

result<digest32> foot_key_of(const key_tree &keys, const digest32 &header_sha256) {
  digest32 key;
  THOLE_TRY(keys.derive("foot", header_sha256, key));
  return key;
}

result<digest32> foot_mac(const digest32 &key, const page_bytes &footer) {
  return hmac_sha256(key, octets(footer).first(footer_authenticated));
}

}  // namespace

result<container_keys> container_keys::derive(const key_tree &keys, const header_bytes &header) {
  container_keys out;
  THOLE_LET(out.header_sha256, sha256({header}));
  unsigned char okm[32 + 12 + 32];
  auto derived = keys.derive("part", out.header_sha256, okm);
  if (derived) {
    auto chunk = secret::copy(octets(okm, 32));
    if (chunk) out.chunk = std::move(*chunk);
    else derived = tl::unexpected(chunk.error());
    std::memcpy(out.base.data(), okm + 32, out.base.size());
    std::memcpy(out.header_tag.data(), okm + 44, out.header_tag.size());
  }
  OPENSSL_cleanse(okm, sizeof okm);
  if (!derived) return tl::unexpected(derived.error());
  return out;
}

container_writer::container_writer(std::unique_ptr<out_file> file, header h, container_keys keys, digest32 foot_key,
                                   gcm cipher, std::string name)
    : file_(std::move(file)),
      header_(h),
      encoded_(encode(h)),
      keys_(std::move(keys)),
      foot_key_(foot_key),
      cipher_(std::move(cipher)),
      name_(std::move(name)) {}

result<std::unique_ptr<container_writer>> container_writer::create(store &files, const std::string &path, header h,
                                                                   const key_tree &keys) {
  THOLE_TRY(random_bytes(h.salt.data(), h.salt.size()));
  THOLE_LET(container_keys derived, container_keys::derive(keys, encode(h)));
  THOLE_LET(const digest32 foot_key, foot_key_of(keys, derived.header_sha256));
  THOLE_LET(gcm cipher, gcm::make(gcm::direction::seal, derived.chunk.view()));
  THOLE_LET(auto file, files.create(path));
  std::unique_ptr<container_writer> w(
      new container_writer(std::move(file), h, std::move(derived), foot_key, std::move(cipher), files.place(path)));
  page_bytes first{};
  std::memcpy(first.data(), w->encoded_.data(), w->encoded_.size());
  std::memcpy(first.data() + header_fixed, w->keys_.header_tag.data(), w->keys_.header_tag.size());
  THOLE_TRY(w->file_->write_at(0, first));
  return w;
}

result<> container_writer::begin_chunk() {
  THOLE_LET(chunk_, file_->block(std::size_t{1} << header_.chunk_log2));
  return cipher_.begin(chunk_nonce(keys_.base, index_), chunk_aad(header_.kind, index_));
}

result<> container_writer::end_chunk() {
  tags_.resize(tags_.size() + tag_size);
  THOLE_TRY(cipher_.seal(octets_out(tags_).last(tag_size)));
  const std::size_t stored = padded(filled_);
  std::memset(chunk_.data() + filled_, 0, stored - filled_);  // only the last chunk is not full
  THOLE_TRY(file_->write_block(page + (index_ << header_.chunk_log2), stored));
  filled_ = 0;
  ++index_;
  return {};
}

result<> container_writer::append(octets bytes) {
  if (bytes.size() > most_plain - plain_len_)
    return fail(reason::OverBound, "{} would hold more than 4 TiB: save with more ranks", name_);
  const std::size_t full = std::size_t{1} << header_.chunk_log2;
  while (!bytes.empty()) {
    if (filled_ == 0) THOLE_TRY(begin_chunk());
    const std::size_t n = std::min(bytes.size(), full - filled_);
    THOLE_TRY(cipher_.update(bytes.data(), chunk_.data() + filled_, n));
    filled_ += n;
    plain_len_ += n;
    bytes = bytes.subspan(n);
    if (filled_ == full) THOLE_TRY(end_chunk());
  }
  return {};
}

result<container_identity> container_writer::finish(octets table) {
  if (filled_ > 0) THOLE_TRY(end_chunk());
  footer foot;
  THOLE_LET(foot.shape, lay_out(header_.chunk_log2, plain_len_, table.size(), name_));
  const geometry &g = foot.shape;

  std::vector<unsigned char> tail(g.file_len - g.table_off, 0);
  THOLE_TRY(cipher_.begin(chunk_nonce(keys_.base, table_index), table_aad(header_.kind, g)));
  THOLE_TRY(cipher_.update(table.data(), tail.data(), table.size()));
  tags_.resize(tags_.size() + tag_size);
  THOLE_TRY(cipher_.seal(octets_out(tags_).last(tag_size)));
  std::memcpy(tail.data() + (g.tags_off - g.table_off), tags_.data(), tags_.size());

  THOLE_LET(foot.root, root_of(encoded_, keys_.header_tag, g, tags_));
  THOLE_LET(foot.mac, foot_mac(foot_key_, encode(foot)));
  const page_bytes last = encode(foot);
  std::memcpy(tail.data() + tail.size() - page, last.data(), page);
  THOLE_TRY(file_->write_at(g.table_off, tail));
  THOLE_TRY(file_->sync());
  return container_identity{g.file_len, g.plain_len, keys_.header_sha256, foot.root};
}

tl::unexpected<error> container_reader::damaged(std::string_view what) const noexcept {
  return fail(reason::CheckpointDamaged, "{}: {}; restore an older step, or the file from a copy", name_, what);
}

result<std::optional<header>> peek_header(store &files, const std::string &path) {
  THOLE_LET(auto file, files.open(path));
  if (file == nullptr) return std::optional<header>{};
  page_bytes first;
  THOLE_TRY(file->read_at(0, first));
  THOLE_LET(const header h, parse_header(first, files.place(path)));
  return std::optional<header>(h);
}

result<std::unique_ptr<container_reader>> container_reader::open(store &files, const std::string &path,
                                                                 const header &expected, const key_tree &keys) {
  const std::string name = files.place(path);
  THOLE_LET(auto file, files.open(path));
  if (file == nullptr) return fail(reason::PartMissing, "{} is not there; restore an older step", name);
  return open(std::move(file), name, expected, keys);
}

result<std::unique_ptr<container_reader>> container_reader::open(std::unique_ptr<in_file> file, const std::string &name,
                                                                 const header &expected, const key_tree &keys) {
  page_bytes first;
  THOLE_TRY(file->read_at(0, first));
  THOLE_LET(header h, parse_header(first, name));
  header same = h;  // all that the place of the file decides
  same.kind = expected.kind;
  same.part = expected.part;
  same.parts = expected.parts;
  same.step = expected.step;
  same.attempt = expected.attempt;
  same.checkpoint = expected.checkpoint;
  same.run = expected.run;
  const header_bytes encoded = encode(h);
  if (encoded != encode(same))
    return fail(reason::CheckpointDamaged,
                "{} says that it is part {} of {} of step {}, attempt {}, of run {}: it belongs elsewhere", name,
                h.part, h.parts, h.step, h.attempt, to_text(h.run));
  THOLE_LET(container_keys derived, container_keys::derive(keys, encoded));
  if (!equal(derived.header_tag, octets(first).subspan(header_fixed, 32)))
    return fail(reason::CheckpointDamaged, "{}: its header is damaged or forged; restore an older step", name);
  THOLE_LET(gcm cipher, gcm::make(gcm::direction::open, derived.chunk.view()));
  std::unique_ptr<container_reader> r(
      new container_reader(std::move(file), name, h, std::move(derived), std::move(cipher)));
  THOLE_TRY(r->read_frame(keys));
  return r;
}

result<> container_reader::read_frame(const key_tree &keys) {
  const uint64_t size = file_->size();
  if (size < 3 * page || size % page != 0) return damaged("the file was cut");
  page_bytes last;
  THOLE_TRY(file_->read_at(size - page, last));
  THOLE_LET(const footer foot, parse_footer(last, header_.chunk_log2, size, name_));
  THOLE_LET(const digest32 key, foot_key_of(keys, keys_.header_sha256));
  THOLE_LET(const digest32 mac, foot_mac(key, last));
  if (!equal(mac, foot.mac)) return damaged("the footer is damaged or forged");
  shape_ = foot.shape;
  // The footer is ours and fits the file's length, so these sizes are what the file really has.
  tags_.resize(shape_.tags_len);
  THOLE_TRY(file_->read_at(shape_.tags_off, tags_));
  THOLE_LET(const digest32 root, root_of(encode(header_), keys_.header_tag, shape_, tags_));
  if (!equal(root, foot.root)) return damaged("the tags are damaged or forged");
  identity_ = {size, shape_.plain_len, keys_.header_sha256, root};
  return {};
}

result<std::vector<unsigned char>> container_reader::table() {
  std::vector<unsigned char> out(padded(shape_.table_len));
  THOLE_TRY(file_->read_at(shape_.table_off, out));
  if (!all_zero(octets(out).subspan(shape_.table_len))) return damaged("bytes after the table are set");
  THOLE_TRY(cipher_.begin(chunk_nonce(keys_.base, table_index), table_aad(header_.kind, shape_)));
  THOLE_TRY(cipher_.update(out.data(), out.data(), shape_.table_len));
  THOLE_LET(const bool authentic, cipher_.open(octets(tags_).last(tag_size)));
  if (!authentic) return damaged("the table is damaged or forged");
  out.resize(shape_.table_len);
  return out;
}

// `to` has room for the chunk; it holds plain bytes only if the tag was right. The caller goes on up to `end`.
result<> container_reader::open_chunk(uint64_t index, uint64_t end, unsigned char *to) {
  const std::size_t size = shape_.chunk_len(index);
  THOLE_LET(const octets stored, file_->block_at(shape_.chunk_off(index), shape_.chunk, end));
  THOLE_TRY(cipher_.begin(chunk_nonce(keys_.base, index), chunk_aad(header_.kind, index)));
  THOLE_TRY(cipher_.update(stored.data(), to, size));
  THOLE_LET(const bool authentic, cipher_.open(octets(tags_).subspan(index * tag_size, tag_size)));
  if (authentic) return {};
  OPENSSL_cleanse(to, size);
  return fail(reason::CheckpointDamaged, "{}: chunk {} at byte {} is damaged or forged; restore an older step", name_,
              index, shape_.chunk_off(index));
}

result<> container_reader::read(uint64_t offset, octets_out to) {
  auto done = read_range(offset, to);
  if (!done && !to.empty()) OPENSSL_cleanse(to.data(), to.size());
  return done;
}

result<> container_reader::read_range(uint64_t offset, octets_out to) {
  if (offset > shape_.plain_len || to.size() > shape_.plain_len - offset)
    return damaged("the manifest points beyond the part's data");
  if (to.empty()) return {};
  const uint64_t end = shape_.chunk_end((offset + to.size() - 1) / shape_.chunk);
  while (!to.empty()) {
    const uint64_t index = offset / shape_.chunk;
    const uint64_t within = offset % shape_.chunk;
    const uint64_t whole = shape_.chunk_len(index);
    const std::size_t n = std::min<uint64_t>(to.size(), whole - within);
    if (n == whole) {
      THOLE_TRY(open_chunk(index, end, to.data()));  // straight to where it is wanted
    } else {
      if (plain_index_ != index) {
        plain_.resize(shape_.chunk);
        plain_index_ = UINT64_MAX;
        THOLE_TRY(open_chunk(index, end, plain_.data()));
        plain_index_ = index;
      }
      std::memcpy(to.data(), plain_.data() + within, n);
    }
    offset += n;
    to = to.subspan(n);
  }
  return {};
}

result<> container_reader::check_zeros(uint64_t from, uint64_t to, std::string_view what) {
  std::vector<unsigned char> rest(to - from);
  THOLE_TRY(file_->read_at(from, rest));
  if (!all_zero(rest)) return damaged(what);
  return {};
}

result<uint64_t> container_reader::check_all() {
  plain_.resize(shape_.chunk);
  plain_index_ = UINT64_MAX;
  for (uint64_t i = 0; i < shape_.chunks; ++i) THOLE_TRY(open_chunk(i, shape_.table_off, plain_.data()));
  THOLE_TRY(check_zeros(shape_.data_end(), shape_.table_off, "bytes after the data are set"));
  THOLE_TRY(check_zeros(shape_.tags_off + shape_.tags_len, shape_.file_len - page, "bytes after the tags are set"));
  THOLE_TRY(table());
  return shape_.chunks;
}

}  // namespace thole::checkpoint
