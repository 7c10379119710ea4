#include "checkpoint/contents.h"

#include <checkpoint.pb.h>
#include <thole/checkpoint.h>

#include <algorithm>

#include "base/repeated.h"
#include "base/text.h"

namespace thole::checkpoint {
namespace {

tl::unexpected<error> damaged(std::string_view name, std::string_view what) noexcept {
  return fail(reason::CheckpointDamaged, "{}: {}", name, what);
}

template <class Message>
bool parse(Message &m, octets bytes) {
  return bytes.size() <= most_manifest && m.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

// One content has one form: fields in their order, each once, none that is unknown, no zero written out. Anything else
// would be authenticated and yet not understood; a newer format says so by its version instead.
bool same(std::string_view canonical, octets stored) noexcept {
  return canonical == text_of(stored);
}

std::vector<uint64_t> numbers(const google::protobuf::RepeatedField<uint64_t> &f) {
  return {f.begin(), f.end()};
}

template <class Message>
void put_head(Message &to, const item_head &head) {
  to.set_name(head.name);
  to.set_kind(static_cast<uint32_t>(head.kind));
  to.set_dtype(head.dtype);
  to.mutable_shape()->Add(head.shape.begin(), head.shape.end());
}

template <class Message>
void put_box(Message &to, const box &b) {
  to.mutable_start()->Add(b.start.begin(), b.start.end());
  to.mutable_extent()->Add(b.extent.begin(), b.extent.end());
}

template <class Message>
result<item_head> get_head(const Message &from, std::string_view name) {
  if (from.kind() < 1 || from.kind() > 6) return damaged(name, "an item's kind is unknown");
  return item_head{from.name(), static_cast<item_kind>(from.kind()), from.dtype(), numbers(from.shape())};
}

bool put_digest(digest32 &to, const std::string &from) {
  if (from.size() != to.size()) return false;
  std::copy(from.begin(), from.end(), to.begin());
  return true;
}

bool put_id(id128 &to, const std::string &from) {
  if (from.size() != 16) return false;
  to = from_bytes(reinterpret_cast<const unsigned char *>(from.data()));
  return true;
}

std::string id_bytes(id128 id) {
  const auto bytes = to_bytes(id);
  return std::string(text_of(bytes));
}

result<> check_value(item_kind kind, uint64_t length, std::string_view what) {
  const uint64_t fixed = kind == item_kind::boolean ? 1 : 8;
  if (kind == item_kind::text || kind == item_kind::bytes) {
    if (length <= THOLE_MAX_VALUE) return {};
    return fail(reason::OverBound, "{}: a value of {} bytes; {} are the most", what, length, THOLE_MAX_VALUE);
  }
  if (length == fixed) return {};
  return fail(reason::ItemBad, "{}: a value of this kind has {} bytes, not {}", what, fixed, length);
}

}  // namespace

result<> check_item(const item_head &head, const box &where, uint64_t length, std::string_view what) {
  if (head.name.empty()) return fail(reason::ItemBad, "{}: the name is empty", what);
  if (head.name.size() > THOLE_MAX_ITEM_NAME)
    return fail(reason::OverBound, "{}: the name has {} bytes; {} are the most", what, head.name.size(),
                THOLE_MAX_ITEM_NAME);
  if (!is_utf8(head.name) || head.name.find('\0') != std::string::npos)
    return fail(reason::ItemBad, "{}: the name is not UTF-8 without NUL", what);
  if (head.kind != item_kind::tensor) {
    if (!head.dtype.empty() || !head.shape.empty() || !where.start.empty() || !where.extent.empty())
      return fail(reason::ItemBad, "{}: a value has no dtype, shape or box", what);
    return check_value(head.kind, length, what);
  }
  if (head.shape.size() > THOLE_MAX_DIMS)
    return fail(reason::OverBound, "{}: {} dimensions; {} are the most", what, head.shape.size(), THOLE_MAX_DIMS);
  const auto size = element_size(head.dtype);
  if (!size) {
    const auto near = nearest(head.dtype, dtype_names());
    return fail(reason::ItemBad, "{}: there is no dtype '{}'{}{}", what, head.dtype.substr(0, 40),
                near.empty() ? "; objects are never saved" : ", did you mean ", near);
  }
  if (!bytes_of(head.shape, *size)) return fail(reason::ItemBad, "{}: the shape has more bytes than 2^63", what);
  if (!inside(where, head.shape)) return fail(reason::ItemBad, "{}: the box is not inside the shape", what);
  const uint64_t expected = *bytes_of(where.extent, *size);
  if (expected != length)
    return fail(reason::ItemBad, "{}: the box has {} bytes and the data {}", what, expected, length);
  return {};
}

std::string encode_table(const std::vector<part_item> &items) {
  v1::PartTable table;
  for (const part_item &i : items) {
    auto &to = *next(table.mutable_items());
    put_head(to, i.head);
    put_box(to, i.where);
    to.set_offset(i.offset);
    to.set_length(i.length);
    to.set_digest(i.digest);
  }
  return table.SerializeAsString();
}

result<std::vector<part_item>> decode_table(octets bytes, uint64_t plain_len, std::string_view name) {
  v1::PartTable table;
  if (!parse(table, bytes)) return damaged(name, "the table cannot be read");
  if (static_cast<uint32_t>(table.items_size()) > THOLE_MAX_ITEMS) return damaged(name, "the table has too many items");
  std::vector<part_item> out;
  out.reserve(static_cast<std::size_t>(table.items_size()));
  uint64_t at = 0;
  for (const auto &from : table.items()) {
    part_item i;
    THOLE_LET(i.head, get_head(from, name));
    i.where = {numbers(from.start()), numbers(from.extent())};
    i.offset = from.offset();
    i.length = from.length();
    i.digest = from.digest();
    THOLE_TRY(check_item(i.head, i.where, i.length, name));
    if (i.offset != at || i.length > plain_len - at) return damaged(name, "the items do not follow one another");
    if (!i.digest.empty() && i.digest.size() != tag_size) return damaged(name, "an item's digest has the wrong length");
    at += i.length;
    out.push_back(std::move(i));
  }
  if (at != plain_len) return damaged(name, "the items are not all of the data");
  if (!same(encode_table(out), bytes)) return damaged(name, "the table is not in its one form");
  return out;
}

uint64_t manifest::bytes() const noexcept {
  uint64_t sum = 0;
  for (const auto &i : items)
    for (const auto &s : i.segments) sum += s.length;
  return sum;
}

uint64_t manifest::file_bytes() const noexcept {
  uint64_t sum = 0;
  for (const auto &p : parts) sum += p.file_len;
  return sum;
}

const manifest_item *manifest::find(std::string_view name) const noexcept {
  const auto at = std::lower_bound(items.begin(), items.end(), name,
                                   [](const manifest_item &i, std::string_view n) { return i.head.name < n; });
  return at != items.end() && at->head.name == name ? &*at : nullptr;
}

std::string encode_manifest(const manifest &m) {
  v1::Manifest to;
  to.set_run(id_bytes(m.run));
  to.set_checkpoint(id_bytes(m.checkpoint));
  to.set_attempt(m.attempt);
  to.set_step(m.step);
  to.set_sequence(m.sequence);
  to.set_committed_unix_ns(m.committed_unix_ns);
  if (m.previous.checkpoint) {
    to.set_previous_checkpoint(id_bytes(m.previous.checkpoint));
    to.set_previous_step(m.previous.step);
    to.set_previous_hash(std::string(text_of(m.previous.hash)));
  }
  for (const container_identity &p : m.parts) {
    auto &part = *next(to.mutable_parts());
    part.set_file_len(p.file_len);
    part.set_plain_len(p.plain_len);
    part.set_header_sha256(std::string(text_of(p.header_sha256)));
    part.set_root(std::string(text_of(p.root)));
  }
  for (const manifest_item &i : m.items) {
    auto &item = *next(to.mutable_items());
    put_head(item, i.head);
    for (const segment &s : i.segments) {
      auto &seg = *next(item.mutable_segments());
      seg.set_part(s.part);
      put_box(seg, s.where);
      seg.set_offset(s.offset);
      seg.set_length(s.length);
    }
  }
  return to.SerializeAsString();
}

namespace {

result<manifest_item> decode_item(const v1::ManifestItem &from, const manifest &m, std::string_view name) {
  manifest_item item;
  THOLE_LET(item.head, get_head(from, name));
  std::vector<box> boxes;
  for (const auto &s : from.segments()) {
    segment seg{s.part(), {numbers(s.start()), numbers(s.extent())}, s.offset(), s.length()};
    if (seg.part >= m.parts.size()) return damaged(name, "the manifest names a part that it does not have");
    THOLE_TRY(check_item(item.head, seg.where, seg.length, name));
    const uint64_t room = m.parts[seg.part].plain_len;
    if (seg.offset > room || seg.length > room - seg.offset)
      return damaged(name, "the manifest points beyond a part's data");
    boxes.push_back(seg.where);
    item.segments.push_back(std::move(seg));
  }
  if (item.head.kind != item_kind::tensor) {
    if (item.segments.size() != 1) return damaged(name, "a value must stand in one place");
    return item;
  }
  if (item.segments.empty()) {
    const box whole{std::vector<uint64_t>(item.head.shape.size()), item.head.shape};
    const auto size = element_size(item.head.dtype);
    THOLE_TRY(check_item(item.head, whole, bytes_of(item.head.shape, size.value_or(1)).value_or(0), name));
  }
  THOLE_LET(const covering covered, cover(boxes, item.head.shape));
  if (covered != covering::exact) return damaged(name, "the manifest's boxes do not cover a tensor exactly");
  return item;
}

}  // namespace

result<manifest> decode_manifest(octets bytes, std::string_view name) {
  v1::Manifest from;
  if (!parse(from, bytes)) return damaged(name, "the manifest cannot be read");
  manifest m;
  m.attempt = from.attempt();
  m.step = from.step();
  m.sequence = from.sequence();
  m.committed_unix_ns = from.committed_unix_ns();
  bool good = put_id(m.run, from.run()) && put_id(m.checkpoint, from.checkpoint()) && m.sequence > 0 && m.attempt > 0;
  if (!from.previous_checkpoint().empty()) {
    m.previous.step = from.previous_step();
    good = good && put_id(m.previous.checkpoint, from.previous_checkpoint()) && m.previous.checkpoint &&
           put_digest(m.previous.hash, from.previous_hash());
  } else {
    good = good && from.previous_step() == 0 && from.previous_hash().empty();
  }
  if (!good || from.parts_size() < 1 || static_cast<uint32_t>(from.parts_size()) > THOLE_MAX_PARTS)
    return damaged(name, "the manifest's fields are out of range");
  for (const auto &p : from.parts()) {
    container_identity part{p.file_len(), p.plain_len(), {}, {}};
    if (p.plain_len() > most_plain || !put_digest(part.header_sha256, p.header_sha256()) ||
        !put_digest(part.root, p.root()))
      return damaged(name, "the manifest describes a part wrongly");
    m.parts.push_back(part);
  }
  for (const auto &i : from.items()) {
    THOLE_LET(manifest_item item, decode_item(i, m, name));
    if (!m.items.empty() && m.items.back().head.name >= item.head.name)
      return damaged(name, "the manifest's items are not in the order of their names");
    m.items.push_back(std::move(item));
  }
  if (!same(encode_manifest(m), bytes)) return damaged(name, "the manifest is not in its one form");
  return m;
}

}  // namespace thole::checkpoint
