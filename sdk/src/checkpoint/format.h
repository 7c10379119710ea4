// checkpoint/format.h: the bytes of the files of a store, without I/O and without cryptography.
//
// A container (a part, or a manifest) is
//     header page | ciphertext chunks, the last zero-padded to a page | encrypted table, padded | tags, padded | footer
//     page
// and every offset follows from three numbers: chunk size, plain length, table length. What does not follow exactly, or
// is not zero where zeros belong, is refused: there is one form for one content.
#pragma once

#include <vector>

#include "base/id.h"
#include "base/status.h"
#include "checkpoint/octets.h"

namespace thole::checkpoint {

inline constexpr uint64_t page = 4096;
inline constexpr std::size_t header_fixed = 256;  // what is hashed; the header's tag follows
inline constexpr std::size_t tag_size = 16;
inline constexpr uint64_t most_plain = uint64_t{1} << 42;  // 4 TiB a container
inline constexpr uint64_t most_table = uint64_t{1} << 30;
inline constexpr uint64_t most_manifest = uint64_t{1} << 30;
inline constexpr uint8_t default_chunk_log2 = 20;

enum class file_kind : uint8_t { part = 1, manifest = 2 };

struct header {
  file_kind kind = file_kind::part;
  uint8_t chunk_log2 = default_chunk_log2;
  uint32_t part = 0;
  uint32_t parts = 1;
  uint64_t step = 0;
  uint64_t attempt = 0;
  id128 checkpoint;
  id128 run;
  digest32 salt{};  // fresh for every file that is begun: it makes the file's keys its own
};

using header_bytes = std::array<unsigned char, header_fixed>;
using page_bytes = std::array<unsigned char, page>;

header_bytes encode(const header &h) noexcept;
// `bytes` is the first page of a file; its tag, at header_fixed, is the caller's to compare.
result<header> parse_header(octets bytes, std::string_view name);

struct geometry {
  uint64_t chunk = 0;  // bytes of a full one
  uint64_t chunks = 0;
  uint64_t plain_len = 0;
  uint64_t table_len = 0;
  uint64_t table_off = 0;
  uint64_t tags_off = 0;
  uint64_t tags_len = 0;  // 16 for each chunk and 16 for the table
  uint64_t file_len = 0;

  uint64_t chunk_off(uint64_t i) const noexcept { return page + i * chunk; }
  uint64_t chunk_len(uint64_t i) const noexcept { return i + 1 < chunks ? chunk : plain_len - i * chunk; }
  uint64_t chunk_end(uint64_t i) const noexcept { return i + 1 < chunks ? chunk_off(i + 1) : table_off; }  // as stored
  uint64_t data_end() const noexcept { return page + plain_len; }  // zeros from here to table_off
};

inline constexpr uint64_t padded(uint64_t size) noexcept {
  return (size + page - 1) / page * page;
}

result<geometry> lay_out(uint8_t chunk_log2, uint64_t plain_len, uint64_t table_len, std::string_view name);

struct footer {
  geometry shape;
  digest32 root{};
  digest32 mac{};
};
inline constexpr std::size_t footer_authenticated = 96;  // what the mac covers: fields and root

page_bytes encode(const footer &f) noexcept;
result<footer> parse_footer(octets bytes, uint8_t chunk_log2, uint64_t file_len, std::string_view name);

// What a chunk's tag binds beside key and ciphertext. The key binds the file (run, checkpoint, part, attempt, step).
inline constexpr uint64_t table_index = UINT64_MAX;
using nonce_bytes = std::array<unsigned char, 12>;
nonce_bytes chunk_nonce(const nonce_bytes &base, uint64_t index) noexcept;
std::array<unsigned char, 16> chunk_aad(file_kind kind, uint64_t index) noexcept;
// The table's tag binds how many plain bytes stand before it.
std::array<unsigned char, 32> table_aad(file_kind kind, const geometry &shape) noexcept;

// --- KEYSLOTS: a key wrapped under the one above it. ---

enum class slot_level : uint16_t { run = 1, checkpoint = 2 };
enum class wrap_kind : uint16_t { gcm = 1, helper = 2 };
inline constexpr std::size_t most_wrapped = 4096;

struct key_slot {
  slot_level level = slot_level::run;
  id128 run;
  id128 checkpoint;  // none at level run
  wrap_kind wrap = wrap_kind::gcm;
  std::string wrapped;
};

std::string encode(const key_slot &s);  // without the mac that ends the file
struct parsed_slot {
  key_slot slot;
  octets authenticated;
  octets mac;
};
result<parsed_slot> parse_slot(octets bytes, std::string_view name);

// --- Fence records. ---

enum class fence_kind : uint32_t { announced = 1, accepted = 2 };

struct fence_record {
  fence_kind kind = fence_kind::announced;
  id128 run;
  uint64_t attempt = 0;
  id128 checkpoint;  // accepted: the newest of older attempts, none if there is none
  uint64_t step = 0;
  uint64_t sequence = 0;
  digest32 manifest{};
};
inline constexpr std::size_t fence_authenticated = 112;
inline constexpr std::size_t fence_size = fence_authenticated + 32;

std::array<unsigned char, fence_authenticated> encode(const fence_record &r) noexcept;
result<fence_record> parse_fence(octets bytes, std::string_view name);

// --- Names in a store. ---

std::string run_folder(id128 run);
std::string step_folder(id128 run, uint64_t step);
std::string checkpoint_folder(id128 run, uint64_t step, id128 checkpoint);
std::string part_name(uint32_t part);
std::string fence_name(fence_kind kind, uint64_t attempt);
inline constexpr std::string_view manifest_name = "MANIFEST.thole";
inline constexpr std::string_view slots_name = "KEYSLOTS";

std::optional<uint64_t> parse_step_folder(std::string_view name) noexcept;
std::optional<uint32_t> parse_part_name(std::string_view name) noexcept;
std::optional<std::pair<fence_kind, uint64_t>> parse_fence_name(std::string_view name) noexcept;

// The id that every rank of an attempt computes for itself.
id128 checkpoint_id(id128 run, uint64_t attempt, uint64_t step);

}  // namespace thole::checkpoint
