#include "checkpoint/format.h"

#include <fmt/format.h>
#include <thole/checkpoint.h>

#include <algorithm>
#include <cstring>

#include "base/text.h"

namespace thole::checkpoint {
namespace {

// A high bit, a name, line ends of both kinds and an end-of-file: a transfer that changes text is seen at once.
using magic = std::array<unsigned char, 8>;
constexpr magic container_magic = {0x89, 'T', 'H', 'K', 0x0D, 0x0A, 0x1A, 0x0A};
constexpr magic slots_magic = {0x89, 'T', 'H', 'S', 0x0D, 0x0A, 0x1A, 0x0A};
constexpr magic fence_magic = {0x89, 'T', 'H', 'F', 0x0D, 0x0A, 0x1A, 0x0A};
constexpr std::array<unsigned char, 4> footer_magic = {'T', 'H', 'K', 'F'};
constexpr uint16_t major = 1;
constexpr uint16_t minor = 0;
constexpr uint16_t suite = 1;  // AES-256-GCM, HKDF-SHA256

void put_id(unsigned char *to, id128 id) noexcept {
  const auto bytes = to_bytes(id);
  std::memcpy(to, bytes.data(), bytes.size());
}

template <std::size_t N>
void put_raw(unsigned char *to, const std::array<unsigned char, N> &bytes) noexcept {
  std::memcpy(to, bytes.data(), N);
}

template <std::size_t N>
bool holds(const unsigned char *at, const std::array<unsigned char, N> &bytes) noexcept {
  return std::memcmp(at, bytes.data(), N) == 0;
}

tl::unexpected<error> damaged(std::string_view name, std::string_view what) noexcept {
  return fail(reason::CheckpointDamaged, "{}: {}; restore an older step, or the file from a copy", name, what);
}

// magic at 0, version at 8: the same in all kinds of file.
void put_prefix(unsigned char *to, const magic &kind) noexcept {
  put_raw(to, kind);
  put_le(to + 8, major);
  put_le(to + 10, minor);
}
result<> check_prefix(const unsigned char *at, const magic &expected, std::string_view name) {
  if (!holds(at, expected)) return damaged(name, "the file does not begin as it must");
  const auto theirs = get_le<uint16_t>(at + 8);
  const auto theirs_minor = get_le<uint16_t>(at + 10);
  if (theirs != major || theirs_minor > minor)
    return fail(reason::CheckpointNewer, "{} has format {}.{}; this library reads {}.{}", name, theirs, theirs_minor,
                major, minor);
  return {};
}

}  // namespace

header_bytes encode(const header &h) noexcept {
  header_bytes out{};
  unsigned char *p = out.data();
  put_prefix(p, container_magic);
  put_le(p + 12, suite);
  p[14] = static_cast<unsigned char>(h.kind);
  p[15] = h.chunk_log2;
  put_le(p + 16, static_cast<uint32_t>(page));
  put_le(p + 20, h.part);
  put_le(p + 24, h.parts);
  put_le(p + 32, h.step);
  put_le(p + 40, h.attempt);
  put_id(p + 48, h.checkpoint);
  put_id(p + 64, h.run);
  put_raw(p + 80, h.salt);
  return out;
}

result<header> parse_header(octets bytes, std::string_view name) {
  if (bytes.size() != page) return damaged(name, "the header is cut");
  const unsigned char *p = bytes.data();
  THOLE_TRY(check_prefix(p, container_magic, name));
  header h;
  if (get_le<uint16_t>(p + 12) != suite)
    return fail(reason::CheckpointNewer, "{} uses cipher suite {}; this library has 1", name, get_le<uint16_t>(p + 12));
  if (p[14] != 1 && p[14] != 2) return damaged(name, "the header names an unknown kind");
  h.kind = static_cast<file_kind>(p[14]);
  h.chunk_log2 = p[15];
  h.part = get_le<uint32_t>(p + 20);
  h.parts = get_le<uint32_t>(p + 24);
  h.step = get_le<uint64_t>(p + 32);
  h.attempt = get_le<uint64_t>(p + 40);
  h.checkpoint = from_bytes(p + 48);
  h.run = from_bytes(p + 64);
  std::memcpy(h.salt.data(), p + 80, h.salt.size());
  if (h.chunk_log2 < 16 || h.chunk_log2 > 24) return damaged(name, "the header's chunk size is out of range");
  if (h.parts == 0 || h.parts > THOLE_MAX_PARTS || h.part >= h.parts)
    return damaged(name, "the header's part number is out of range");
  if (h.kind == file_kind::manifest && h.part != 0) return damaged(name, "the manifest has a part number");
  if (!holds(p, encode(h)))  // everything else, reserved bytes too, has exactly one value
    return damaged(name, "reserved bytes of the header are set");
  if (!all_zero(bytes.subspan(header_fixed + 32))) return damaged(name, "bytes after the header are set");
  return h;
}

result<geometry> lay_out(uint8_t chunk_log2, uint64_t plain_len, uint64_t table_len, std::string_view name) {
  if (chunk_log2 < 16 || chunk_log2 > 24) return damaged(name, "the chunk size is out of range");
  if (plain_len > most_plain)
    return fail(reason::OverBound, "{} would hold {} bytes; a part holds at most 4 TiB: use more ranks", name,
                plain_len);
  if (table_len > most_table)
    return fail(reason::OverBound, "{} has a table of {} bytes; 1 GiB is the most", name, table_len);
  geometry g;  // With these bounds nothing below can overflow.
  g.chunk = uint64_t{1} << chunk_log2;
  g.chunks = (plain_len + g.chunk - 1) / g.chunk;
  g.plain_len = plain_len;
  g.table_len = table_len;
  g.table_off = page + padded(plain_len);
  g.tags_off = g.table_off + padded(table_len);
  g.tags_len = (g.chunks + 1) * tag_size;
  g.file_len = g.tags_off + padded(g.tags_len) + page;
  return g;
}

page_bytes encode(const footer &f) noexcept {
  page_bytes out{};
  unsigned char *p = out.data();
  put_raw(p, footer_magic);
  put_le(p + 4, uint32_t{1});
  put_le(p + 8, f.shape.chunks);
  put_le(p + 16, f.shape.plain_len);
  put_le(p + 24, page);
  put_le(p + 32, f.shape.table_off);
  put_le(p + 40, f.shape.table_len);
  put_le(p + 48, f.shape.tags_off);
  put_le(p + 56, f.shape.file_len);
  put_raw(p + 64, f.root);
  put_raw(p + footer_authenticated, f.mac);
  return out;
}

result<footer> parse_footer(octets bytes, uint8_t chunk_log2, uint64_t file_len, std::string_view name) {
  if (bytes.size() != page) return damaged(name, "the footer is cut");
  const unsigned char *p = bytes.data();
  footer f;
  const auto plain_len = get_le<uint64_t>(p + 16);
  const auto table_len = get_le<uint64_t>(p + 40);
  if (plain_len > most_plain || table_len > most_table) return damaged(name, "the footer's lengths are out of range");
  THOLE_LET(f.shape, lay_out(chunk_log2, plain_len, table_len, name));
  if (f.shape.file_len != file_len) return damaged(name, "the footer does not fit the file's length");
  std::memcpy(f.root.data(), p + 64, f.root.size());
  std::memcpy(f.mac.data(), p + footer_authenticated, f.mac.size());
  if (!holds(p, encode(f))) return damaged(name, "the footer contradicts itself");
  return f;
}

nonce_bytes chunk_nonce(const nonce_bytes &base, uint64_t index) noexcept {
  nonce_bytes out = base;
  for (unsigned i = 0; i < 8; ++i) out[4 + i] ^= static_cast<unsigned char>(index >> (56 - 8 * i));
  return out;
}

std::array<unsigned char, 16> chunk_aad(file_kind kind, uint64_t index) noexcept {
  std::array<unsigned char, 16> out = {'T', 'H', 'K', '1', static_cast<unsigned char>(kind)};
  put_le(out.data() + 8, index);
  return out;
}

std::array<unsigned char, 32> table_aad(file_kind kind, const geometry &shape) noexcept {
  std::array<unsigned char, 32> out{};
  const auto first = chunk_aad(kind, table_index);
  std::memcpy(out.data(), first.data(), first.size());
  put_le(out.data() + 16, shape.chunks);
  put_le(out.data() + 24, shape.plain_len);
  return out;
}

std::string encode(const key_slot &s) {
  std::array<unsigned char, 56> fixed{};
  unsigned char *p = fixed.data();
  put_prefix(p, slots_magic);
  put_le(p + 12, static_cast<uint16_t>(s.level));
  put_le(p + 14, uint16_t{1});  // slots in this file
  put_id(p + 16, s.run);
  put_id(p + 32, s.checkpoint);
  put_le(p + 48, static_cast<uint16_t>(s.wrap));
  put_le(p + 50, static_cast<uint16_t>(s.wrapped.size()));
  return std::string(text_of(fixed)) + s.wrapped;
}

result<parsed_slot> parse_slot(octets bytes, std::string_view name) {
  if (bytes.size() < 56 + 32) return damaged(name, "the file is cut");
  const unsigned char *p = bytes.data();
  THOLE_TRY(check_prefix(p, slots_magic, name));
  parsed_slot out;
  const auto level = get_le<uint16_t>(p + 12);
  const auto wrap = get_le<uint16_t>(p + 48);
  const auto length = get_le<uint16_t>(p + 50);
  if (level != 1 && level != 2) return damaged(name, "the level of the key is unknown");
  if (wrap != 1 && wrap != 2) return damaged(name, "the way of wrapping is unknown");
  if (length > most_wrapped || bytes.size() != std::size_t{56} + length + 32)
    return damaged(name, "the file's length is wrong");
  out.slot.level = static_cast<slot_level>(level);
  out.slot.run = from_bytes(p + 16);
  out.slot.checkpoint = from_bytes(p + 32);
  out.slot.wrap = static_cast<wrap_kind>(wrap);
  out.slot.wrapped = text_of(bytes.subspan(56, length));
  out.authenticated = bytes.first(std::size_t{56} + length);
  out.mac = bytes.last(32);
  if (encode(out.slot) != text_of(out.authenticated)) return damaged(name, "reserved bytes are set");
  return out;
}

std::array<unsigned char, fence_authenticated> encode(const fence_record &r) noexcept {
  std::array<unsigned char, fence_authenticated> out{};
  unsigned char *p = out.data();
  put_prefix(p, fence_magic);
  put_le(p + 12, static_cast<uint32_t>(r.kind));
  put_id(p + 16, r.run);
  put_le(p + 32, r.attempt);
  put_id(p + 40, r.checkpoint);
  put_le(p + 56, r.step);
  put_le(p + 64, r.sequence);
  put_raw(p + 72, r.manifest);
  return out;
}

result<fence_record> parse_fence(octets bytes, std::string_view name) {
  if (bytes.size() != fence_size) return damaged(name, "the file's length is wrong");
  const unsigned char *p = bytes.data();
  THOLE_TRY(check_prefix(p, fence_magic, name));
  fence_record r;
  const auto kind = get_le<uint32_t>(p + 12);
  if (kind != 1 && kind != 2) return damaged(name, "the record's kind is unknown");
  r.kind = static_cast<fence_kind>(kind);
  r.run = from_bytes(p + 16);
  r.attempt = get_le<uint64_t>(p + 32);
  r.checkpoint = from_bytes(p + 40);
  r.step = get_le<uint64_t>(p + 56);
  r.sequence = get_le<uint64_t>(p + 64);
  std::memcpy(r.manifest.data(), p + 72, r.manifest.size());
  if (!holds(p, encode(r))) return damaged(name, "reserved bytes are set");
  return r;
}

std::string run_folder(id128 run) {
  return to_text(run);
}
std::string step_folder(id128 run, uint64_t step) {
  return fmt::format("{}/step-{:020}", to_text(run), step);
}
std::string checkpoint_folder(id128 run, uint64_t step, id128 checkpoint) {
  return step_folder(run, step) + "/" + to_text(checkpoint);
}
std::string part_name(uint32_t part) {
  return fmt::format("part-{:05}.thole", part);
}
std::string fence_name(fence_kind kind, uint64_t attempt) {
  return fmt::format("{}-{:020}.thole", kind == fence_kind::announced ? "fence" : "accept", attempt);
}

namespace {
// prefix, exactly `digits` decimal digits, suffix.
std::optional<uint64_t> numbered(std::string_view name, std::string_view prefix, std::size_t digits,
                                 std::string_view suffix) noexcept {
  if (name.size() != prefix.size() + digits + suffix.size() || !name.starts_with(prefix) || !name.ends_with(suffix))
    return std::nullopt;
  return parse_u64(name.substr(prefix.size(), digits));
}
}  // namespace

std::optional<uint64_t> parse_step_folder(std::string_view name) noexcept {
  return numbered(name, "step-", 20, "");
}
std::optional<uint32_t> parse_part_name(std::string_view name) noexcept {
  const auto n = numbered(name, "part-", 5, ".thole");
  if (!n || *n >= THOLE_MAX_PARTS) return std::nullopt;
  return static_cast<uint32_t>(*n);
}
std::optional<std::pair<fence_kind, uint64_t>> parse_fence_name(std::string_view name) noexcept {
  if (const auto n = numbered(name, "fence-", 20, ".thole")) return std::pair{fence_kind::announced, *n};
  if (const auto n = numbered(name, "accept-", 20, ".thole")) return std::pair{fence_kind::accepted, *n};
  return std::nullopt;
}

id128 checkpoint_id(id128 run, uint64_t attempt, uint64_t step) {
  const auto run_bytes = to_bytes(run);
  return hashed_id({"thole.ckpt/v1 id", text_of(run_bytes), fmt::format("{}", attempt), fmt::format("{}", step)});
}

}  // namespace thole::checkpoint
