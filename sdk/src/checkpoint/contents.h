// checkpoint/contents.h: what parts and manifests say of their items, as plain values and as Protobuf bytes.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/box.h"
#include "checkpoint/container.h"

namespace thole::checkpoint {

enum class item_kind : uint32_t { tensor = 1, integer = 2, real = 3, boolean = 4, text = 5, bytes = 6 };

struct item_head {
  std::string name;
  item_kind kind = item_kind::tensor;
  std::string dtype;            // tensors
  std::vector<uint64_t> shape;  // tensors
};

struct part_item {
  item_head head;
  box where;  // tensors
  uint64_t offset = 0;
  uint64_t length = 0;
  std::string digest;  // for what may be in other parts as well: 16 bytes, else empty
};

struct segment {
  uint32_t part = 0;
  box where;
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct manifest_item {
  item_head head;
  std::vector<segment> segments;  // by start
};

// A manifest that another refers to.
struct manifest_link {
  id128 checkpoint;  // none: there is no predecessor
  uint64_t step = 0;
  digest32 hash{};
};

struct manifest {
  id128 run;
  id128 checkpoint;
  uint64_t attempt = 0;
  uint64_t step = 0;
  uint64_t sequence = 0;
  int64_t committed_unix_ns = 0;
  manifest_link previous;
  std::vector<container_identity> parts;
  std::vector<manifest_item> items;  // by name

  uint64_t bytes() const noexcept;
  uint64_t file_bytes() const noexcept;
  const manifest_item *find(std::string_view name) const noexcept;
};

// Whether a name, dtype, shape and box make an item of `length` bytes. `what` begins the sentence.
result<> check_item(const item_head &head, const box &where, uint64_t length, std::string_view what);

// Parsing refuses what check_item refuses, any other form than encode's, and offsets that leave a gap or overlap.
std::string encode_table(const std::vector<part_item> &items);
result<std::vector<part_item>> decode_table(octets bytes, uint64_t plain_len, std::string_view name);
std::string encode_manifest(const manifest &m);
result<manifest> decode_manifest(octets bytes, std::string_view name);

// The parts of one checkpoint as one list of items, or PartsDisagree with the item and the parts.
result<std::vector<manifest_item>> agree(std::vector<std::vector<part_item>> parts);

}  // namespace thole::checkpoint
