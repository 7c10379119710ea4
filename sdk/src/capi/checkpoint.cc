// thole/checkpoint.h.
#include <thole/checkpoint.h>

#include <mutex>

#include "base/file.h"
#include "base/text.h"
#include "capi/args.h"
#include "capi/guard.h"
#include "capi/room.h"
#include "capi/tables.h"
#include "checkpoint/fence.h"
#include "checkpoint/listing.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"

namespace thole {
namespace {

namespace ckpt = thole::checkpoint;

constexpr uint64_t most_path = 4096;
constexpr uint64_t most_arguments = 64;
// A part costs about a page of files on disk; more parts or ranks than this in one process is a mistake.
constexpr uint32_t most_open = THOLE_MAX_OPEN;

// Calls on one writer or reader wait for each other.
template <class T>
struct locked {
  locked(thole_core of, std::unique_ptr<T> t) noexcept : core(of.v), object(std::move(t)) {}
  uint64_t core;
  std::mutex lock;
  std::unique_ptr<T> object;
};

constinit handle_table<locked<ckpt::writer>, 2, most_open> writers;
constinit handle_table<locked<ckpt::reader>, 3, most_open> readers;

// f(T &), with the handle held and locked. In a forked child nothing is touched.
template <class Table, class F>
thole_code with(Table &table, uint64_t handle, thole_status *status, F &&f) noexcept {
  reason why{};
  auto pin = table.enter(handle, &why);
  if (!Table::entered(pin)) return refuse(why, handle, status);
  return guard(status, [&]() -> result<> {
    const std::lock_guard held(pin->lock);
    return f(*pin->object);
  });
}

result<ckpt::key_source> take_key(const thole_key *given) {
  THOLE_LET(const thole_key key, take(given, "store.key"));
  if (key.kind != THOLE_KEY_FILE && key.kind != THOLE_KEY_HELPER)
    return fail(reason::ArgumentBad, "store.key.kind is {}", key.kind);
  THOLE_TRY(check_reserved(key.reserved, "store.key"));
  ckpt::key_source out;
  out.helper = key.kind == THOLE_KEY_HELPER;
  THOLE_LET(const std::string_view path, take_text(key.path, most_path, "store.key.path"));
  if (path.empty()) return fail(reason::ArgumentMissing, "store.key.path is empty");
  if (out.helper && !path.starts_with('/')) return fail(reason::ArgumentBad, "the key helper's path is not absolute");
  THOLE_LET(out.path, absolute(path));
  THOLE_TRY(check_list(key.arguments, sizeof(thole_str), most_arguments, "store.key.arguments"));
  for (uint64_t i = 0; i < key.arguments.count; ++i) {
    THOLE_LET(const std::string_view a,
              take_text(*THOLE_AT(key.arguments, thole_str, i), most_path, "store.key.arguments"));
    out.arguments.emplace_back(a);
  }
  return out;
}

result<ckpt::target> take_target(const thole_store *given, bool needs_key) {
  THOLE_LET(const thole_store store, take(given, "store"));
  ckpt::target t;
  t.run = from_c(store.run);
  if (!t.run) return fail(reason::ArgumentMissing, "store.run is zero");
  THOLE_LET(const std::string_view folder, take_text(store.folder, most_path, "store.folder"));
  if (folder.empty()) return fail(reason::ArgumentMissing, "store.folder is empty");
  THOLE_LET(std::string place, absolute(folder));
  t.files = ckpt::posix_store(std::move(place));
  THOLE_LET(const std::string_view anchor, take_text(store.anchor, most_path, "store.anchor"));
  THOLE_LET(t.anchor, absolute(anchor));
  if (store.key != nullptr) {
    THOLE_LET(t.key, take_key(store.key));
  } else if (needs_key) {
    return fail(reason::ArgumentMissing, "store.key is NULL");
  }
  return t;
}

result<ckpt::which> take_which(const thole_which *given) {
  ckpt::which out;
  if (given == nullptr) return out;
  THOLE_LET(const thole_which w, take(given, "which"));
  THOLE_TRY(check_reserved(w.reserved, "which"));
  switch (w.by) {
    case THOLE_BY_NEWEST:
      return out;
    case THOLE_BY_STEP:
      out.step = w.step;
      return out;
    case THOLE_BY_ID:
      out.checkpoint = from_c(w.checkpoint);
      if (!out.checkpoint) return fail(reason::ArgumentMissing, "which.checkpoint is zero with THOLE_BY_ID");
      return out;
    default:
      return fail(reason::ArgumentBad, "which.by is {}", w.by);
  }
}

result<> check_attempt(uint64_t attempt) {
  if (attempt == 0) return fail(reason::ArgumentBad, "attempt is 0; the first one is 1");
  if (attempt > THOLE_MAX_ATTEMPT)
    return fail(reason::OverBound, "attempt is {}; {} is the most", attempt, THOLE_MAX_ATTEMPT);
  return {};
}

thole_code fence(thole_core core, const thole_store *store, uint64_t attempt, thole_fenced *fenced,
                 thole_status *status) {
  return with_core(core, status, [&](instance &) -> result<> {
    THOLE_TRY(check_attempt(attempt));
    THOLE_TRY(check_out(fenced, "fenced"));
    THOLE_LET(ckpt::target t, take_target(store, true));
    THOLE_LET(const ckpt::fence_record r, ckpt::fence(t, attempt));
    if (fenced == nullptr) return {};
    return give(fenced, thole_fenced{0, to_c(r.checkpoint), r.step}, "fenced");
  });
}

thole_code begin(thole_core core, const thole_store *store, const thole_save *given, thole_writer *writer,
                 thole_status *status) {
  if (writer != nullptr) writer->v = 0;
  return with_core(core, status, [&](instance &) -> result<> {
    if (writer == nullptr) return fail(reason::ArgumentMissing, "writer is NULL");
    THOLE_LET(ckpt::target t, take_target(store, true));
    THOLE_LET(const thole_save s, take(given, "save"));
    THOLE_TRY(check_attempt(s.attempt));
    if (s.step > THOLE_MAX_STEP)
      return fail(reason::OverBound, "save.step is {}; {} is the most", s.step, THOLE_MAX_STEP);
    if (s.parts > THOLE_MAX_PARTS)
      return fail(reason::OverBound, "save.parts is {}; {} are the most", s.parts, THOLE_MAX_PARTS);
    if (s.part >= s.parts) return fail(reason::ArgumentBad, "save.part is {} of {} parts", s.part, s.parts);
    THOLE_LET(auto opened, ckpt::writer::begin(std::move(t), {s.attempt, s.step, s.part, s.parts}));
    THOLE_LET(writer->v, writers.open(std::make_unique<locked<ckpt::writer>>(core, std::move(opened))));
    return {};
  });
}

result<std::vector<uint64_t>> take_numbers(const uint64_t *from, uint32_t dims, std::string_view what) {
  if (from == nullptr) return fail(reason::ArgumentMissing, "{} is NULL with {} dimensions", what, dims);
  return std::vector<uint64_t>(from, from + dims);
}

result<> put_item(ckpt::writer &w, const thole_item *given) {
  THOLE_LET(const thole_item item, take(given, "item"));
  if (item.kind < THOLE_ITEM_TENSOR || item.kind > THOLE_ITEM_BYTES)
    return fail(reason::ItemBad, "item.kind is {}", item.kind);
  if (item.data.data == nullptr && item.data.len != 0)
    return fail(reason::ArgumentMissing, "item.data is NULL with length {}", item.data.len);
  if (item.dims > THOLE_MAX_DIMS)
    return fail(reason::OverBound, "item.dims is {}; {} are the most", item.dims, THOLE_MAX_DIMS);
  ckpt::item_head head;
  ckpt::box where;
  head.kind = static_cast<ckpt::item_kind>(item.kind);
  THOLE_LET(head.name, take_text(item.name, THOLE_MAX_ITEM_NAME, "item.name"));
  if (head.kind == ckpt::item_kind::tensor) {
    THOLE_LET(head.dtype, take_text(item.dtype, 256, "item.dtype"));
    if (item.dims > 0) {
      THOLE_LET(head.shape, take_numbers(item.shape, item.dims, "item.shape"));
    }
    where = {std::vector<uint64_t>(item.dims), head.shape};
    if (item.dims > 0 && item.start != nullptr) where.start.assign(item.start, item.start + item.dims);
    if (item.dims > 0 && item.extent != nullptr) where.extent.assign(item.extent, item.extent + item.dims);
  } else if (item.dims != 0 || item.dtype.len != 0) {
    return fail(reason::ItemBad, "'{}' is a value: it has no dtype and no dimensions", head.name);
  }
  return w.put(head, where, {static_cast<const unsigned char *>(item.data.data), item.data.len});
}

thole_code put(thole_writer writer, const thole_item *item, thole_status *status) {
  return with(writers, writer.v, status, [&](ckpt::writer &w) { return put_item(w, item); });
}

thole_code seal(thole_writer writer, thole_sealed *sealed, thole_status *status) {
  return with(writers, writer.v, status, [&](ckpt::writer &w) -> result<> {
    THOLE_TRY(check_out(sealed, "sealed"));
    THOLE_LET(const ckpt::sealed s, w.seal());
    if (sealed == nullptr) return {};
    return give(
        sealed,
        thole_sealed{0, s.committed ? 1u : 0u, s.missing, s.bytes, s.file_bytes, s.duration_ns, to_c(s.checkpoint)},
        "sealed");
  });
}

template <class Table>
thole_code end_handle(Table &table, uint64_t handle, thole_status *status) noexcept {
  reason why{};
  if (auto pin = table.enter(handle, &why); !Table::entered(pin)) return refuse(why, handle, status);
  return guard(status, [&]() -> result<> {
    THOLE_LET(const auto last, table.close(handle));
    return {};
  });
}

thole_code end(thole_writer writer, thole_status *status) {
  return end_handle(writers, writer.v, status);
}

thole_code open(thole_core core, const thole_store *store, const thole_which *which, thole_reader *reader,
                thole_status *status) {
  if (reader != nullptr) reader->v = 0;
  return with_core(core, status, [&](instance &) -> result<> {
    if (reader == nullptr) return fail(reason::ArgumentMissing, "reader is NULL");
    THOLE_LET(ckpt::target t, take_target(store, true));
    THOLE_LET(const ckpt::which w, take_which(which));
    THOLE_LET(auto opened, ckpt::reader::open(std::move(t), w));
    THOLE_LET(reader->v, readers.open(std::make_unique<locked<ckpt::reader>>(core, std::move(opened))));
    return {};
  });
}

thole_checkpoint_info info_of(ckpt::reader &r, room &to) {
  const ckpt::manifest &m = r.what().body;
  thole_checkpoint_info i{};
  i.struct_size = sizeof i;
  i.checkpoint = to_c(m.checkpoint);
  i.state = THOLE_CHECKPOINT_COMMITTED;
  i.parts = static_cast<uint32_t>(m.parts.size());
  i.parts_present = i.parts;
  i.freshness = r.fresh() ? THOLE_FRESHNESS_PROVEN : THOLE_FRESHNESS_UNPROVEN;
  i.attempt = m.attempt;
  i.step = m.step;
  i.sequence = m.sequence;
  i.bytes = m.bytes();
  i.file_bytes = m.file_bytes() + r.what().file_len;
  i.committed_unix_ns = m.committed_unix_ns;
  i.path = to.text(r.place());
  return i;
}

result<thole_item> item_of(ckpt::reader &r, const ckpt::manifest_item &from, room &to) {
  thole_item i{};
  i.struct_size = sizeof i;
  i.name = to.text(from.head.name);
  i.kind = static_cast<thole_item_kind>(from.head.kind);
  i.dims = static_cast<uint32_t>(from.head.shape.size());
  i.dtype = to.text(from.head.dtype);
  if (i.dims > 0) {
    auto *shape = to.array<uint64_t>(i.dims);
    std::copy(from.head.shape.begin(), from.head.shape.end(), shape);
    i.shape = shape;
  }
  if (from.head.kind == ckpt::item_kind::tensor) return i;
  std::vector<unsigned char> value(from.segments.front().length);
  THOLE_TRY(r.get_value(from, value));
  const thole_str data = to.text(ckpt::text_of(value));
  i.data = {data.data, data.len};
  return i;
}

thole_code describe(thole_reader reader, thole_checkpoint_contents *contents, thole_buffer *buffer,
                    thole_status *status) {
  return with(readers, reader.v, status, [&](ckpt::reader &r) -> result<> {
    THOLE_TRY(take(static_cast<const thole_checkpoint_contents *>(contents), "contents"));
    room to(buffer);
    THOLE_TRY(to.check());
    auto *info = to.array<thole_checkpoint_info>(1);
    *info = info_of(r, to);
    const auto &items = r.what().body.items;
    auto *list = to.array<thole_item>(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      THOLE_LET(list[i], item_of(r, items[i], to));
    }
    THOLE_TRY(to.finish());
    return give(contents, thole_checkpoint_contents{0, info, room::list(list, items.size())}, "contents");
  });
}

result<> get_tensor(ckpt::reader &r, const ckpt::manifest_item &item, const thole_box &b) {
  const auto &shape = item.head.shape;
  ckpt::box want{std::vector<uint64_t>(shape.size()), shape};
  if ((b.start != nullptr || b.extent != nullptr) && b.dims != shape.size())
    return fail(reason::ItemBad, "'{}' has {} dimensions, and the box {}", item.head.name, shape.size(), b.dims);
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (b.start != nullptr) want.start[d] = b.start[d];
    if (want.start[d] > shape[d])
      return fail(reason::ItemBad, "the box begins at {} in dimension {} of '{}', which has {}", want.start[d], d,
                  item.head.name, shape[d]);
    want.extent[d] = b.extent != nullptr ? b.extent[d] : shape[d] - want.start[d];
    if (want.extent[d] > shape[d] - want.start[d])
      return fail(reason::ItemBad, "the box ends beyond dimension {} of '{}', which has {}", d, item.head.name,
                  shape[d]);
    if (d > 0 && want.extent[d] != shape[d])
      return fail(reason::BoxUnsupported, "the box cuts '{}' in dimension {}: ask for whole rows", item.head.name, d);
  }
  const uint64_t bytes = *ckpt::bytes_of(want.extent, *ckpt::element_size(item.head.dtype));
  if (bytes != b.size)
    return fail(reason::ItemBad, "the box of '{}' has {} bytes, not {}", item.head.name, bytes, b.size);
  if (bytes == 0) return {};
  return r.get_rows(item, shape.empty() ? 0 : want.start[0], shape.empty() ? 1 : want.extent[0],
                    {static_cast<unsigned char *>(b.to), b.size});
}

result<> get_box(ckpt::reader &r, const thole_box &b) {
  THOLE_LET(const std::string_view name, take_text(b.name, THOLE_MAX_ITEM_NAME, "box.name"));
  if (b.to == nullptr && b.size != 0) return fail(reason::ArgumentMissing, "box.to is NULL with size {}", b.size);
  const ckpt::manifest &m = r.what().body;
  const ckpt::manifest_item *item = m.find(name);
  if (item == nullptr) {
    std::vector<std::string_view> names;
    for (const auto &i : m.items) names.emplace_back(i.head.name);
    const std::string_view near = nearest(name, names);
    return fail(reason::ItemUnknown, "the checkpoint has no '{}'{}{}", name, near.empty() ? "" : "; did you mean ",
                near);
  }
  if (item->head.kind == ckpt::item_kind::tensor) return get_tensor(r, *item, b);
  const uint64_t length = item->segments.front().length;
  if (b.start != nullptr || b.extent != nullptr || b.size != length)
    return fail(reason::ItemBad, "'{}' is a value of {} bytes, without dimensions", name, length);
  return r.get_value(*item, {static_cast<unsigned char *>(b.to), b.size});
}

thole_code get(thole_reader reader, const thole_box *box, thole_status *status) {
  return with(readers, reader.v, status, [&](ckpt::reader &r) -> result<> {
    THOLE_LET(const thole_box b, take(box, "box"));
    THOLE_TRY(check_reserved(b.reserved, "box"));
    auto done = get_box(r, b);
    if (!done && b.to != nullptr && b.size > 0) std::memset(b.to, 0, b.size);
    return done;
  });
}

thole_code close(thole_reader reader, thole_status *status) {
  return end_handle(readers, reader.v, status);
}

thole_checkpoint_info info_of(const ckpt::listed &l, room &to) {
  thole_checkpoint_info i{};
  i.struct_size = sizeof i;
  i.checkpoint = to_c(l.where.checkpoint);
  i.state = static_cast<thole_checkpoint_state>(l.state);
  i.parts = l.where.parts;
  i.parts_present = l.parts_present;
  i.freshness = l.fresh ? THOLE_FRESHNESS_PROVEN : THOLE_FRESHNESS_UNPROVEN;
  i.attempt = l.where.attempt;
  i.step = l.where.step;
  i.sequence = l.sequence;
  i.bytes = l.bytes;
  i.file_bytes = l.file_bytes;
  i.committed_unix_ns = l.committed_unix_ns;
  i.path = to.text(l.place);
  i.reason = to.text(l.why);
  return i;
}

thole_code list(thole_core core, const thole_store *store, thole_checkpoint_list *list, thole_buffer *buffer,
                thole_status *status) {
  return with_core(core, status, [&](instance &) -> result<> {
    THOLE_TRY(take(static_cast<const thole_checkpoint_list *>(list), "list"));
    room to(buffer);
    THOLE_TRY(to.check());
    THOLE_LET(ckpt::target t, take_target(store, false));
    THOLE_LET(const auto all, ckpt::list(t));
    auto *out = to.array<thole_checkpoint_info>(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) out[i] = info_of(all[i], to);
    THOLE_TRY(to.finish());
    return give(list, thole_checkpoint_list{0, room::list(out, all.size())}, "list");
  });
}

thole_code verify(thole_core core, const thole_store *store, const thole_which *which, thole_verified *verified,
                  thole_status *status) {
  return with_core(core, status, [&](instance &) -> result<> {
    THOLE_LET(ckpt::target t, take_target(store, true));
    THOLE_LET(const ckpt::which w, take_which(which));
    THOLE_TRY(check_out(verified, "verified"));
    THOLE_LET(const auto opened, ckpt::reader::open(std::move(t), w));
    THOLE_LET(const ckpt::verified v, opened->verify());
    if (verified == nullptr) return {};
    return give(verified, thole_verified{0, v.parts, 0, v.chunks, v.bytes}, "verified");
  });
}

thole_code retire(thole_core core, const thole_store *store, uint32_t keep, uint64_t *removed, thole_status *status) {
  return with_core(core, status, [&](instance &) -> result<> {
    if (keep == 0) return fail(reason::ArgumentBad, "keep is 0; the newest checkpoint always stays");
    THOLE_LET(ckpt::target t, take_target(store, true));
    THOLE_LET(const uint64_t n, ckpt::retire(t, keep));
    if (removed != nullptr) *removed = n;
    return {};
  });
}

constexpr thole_checkpoint_api table = {
    sizeof(thole_checkpoint_api), fence, begin, put, seal, end, open, describe, get, close, list, verify, retire};

}  // namespace

void end_handles_of(thole_core core) noexcept {
  writers.close_where([&](const auto &w) { return w.core == core.v; });
  readers.close_where([&](const auto &r) { return r.core == core.v; });
}

constinit const thole_checkpoint_api checkpoint_table = table;

thole_code key_new(thole_core core, thole_str path, thole_status *status) {
  return with_core(core, status, [&](instance &) -> result<> {
    THOLE_LET(const std::string_view p, take_text(path, most_path, "path"));
    if (p.empty()) return fail(reason::ArgumentMissing, "path is empty");
    return ckpt::write_new_key(std::string(p));
  });
}

}  // namespace thole
