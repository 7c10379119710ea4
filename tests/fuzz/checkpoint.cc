// What a store may hold: header and footer of a container, keys, fence records, tables and manifests. There is one form
// for one content, so what is accepted is written again to the same bytes.
#include <cstdlib>
#include <cstring>

#include "checkpoint/contents.h"
#include "checkpoint/format.h"

namespace {

using namespace thole::checkpoint;

void must(bool good) {
  if (!good) std::abort();
}

void check_frame(octets bytes) {
  page_bytes first{};
  std::memcpy(first.data(), bytes.data(), std::min(bytes.size(), first.size()));
  if (const auto h = parse_header(first, "fuzz")) {
    const header_bytes again = encode(*h);
    must(std::memcmp(again.data(), first.data(), again.size()) == 0);
  }
  const auto number = [&](std::size_t at) { return bytes.size() >= at + 8 ? get_le<uint64_t>(bytes.data() + at) : 0; };
  for (const uint64_t size : {number(56), number(0), uint64_t{bytes.size()}})
    for (const uint8_t log2 : {uint8_t{16}, uint8_t{20}, first[15]}) {
      const auto f = parse_footer(first, log2, size, "fuzz");
      if (!f) continue;
      must(encode(*f) == first && f->shape.file_len == size);
      must(f->shape.chunks == 0 || f->shape.chunk_end(f->shape.chunks - 1) == f->shape.table_off);
    }
}

void check_keys(octets bytes) {
  if (const auto s = parse_slot(bytes, "fuzz")) {
    must(encode(s->slot) == text_of(s->authenticated));
    must(s->authenticated.size() + s->mac.size() == bytes.size());
  }
  if (const auto r = parse_fence(bytes, "fuzz")) {
    const auto again = encode(*r);
    must(std::memcmp(again.data(), bytes.data(), again.size()) == 0);
  }
}

void check_contents(octets bytes, uint64_t plain_len) {
  if (auto items = decode_table(bytes, plain_len, "fuzz")) {
    must(encode_table(*items) == text_of(bytes));
    // A part is what it agrees with.
    if (const auto all = agree({*items, *items})) must(all->size() == items->size());
  }
  if (const auto m = decode_manifest(bytes, "fuzz")) {
    must(encode_manifest(*m) == text_of(bytes));
    for (const manifest_item &i : m->items) must(m->find(i.head.name) == &i);
  }
}

void check_names(std::string_view name) {
  if (const auto n = parse_part_name(name)) must(part_name(*n) == name);
  if (const auto n = parse_step_folder(name)) must(step_folder({1, 2}, *n).ends_with(name));
  if (const auto f = parse_fence_name(name)) must(fence_name(f->first, f->second) == name);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, std::size_t size) {
  const octets bytes(data, size);
  check_frame(bytes);
  check_keys(bytes);
  check_names(text_of(bytes));
  // Eight bytes of length, then a table of a part of that length; and the whole as a manifest.
  check_contents(bytes, size);
  if (size > 8) check_contents(bytes.subspan(8), get_le<uint64_t>(data));
  return 0;
}
