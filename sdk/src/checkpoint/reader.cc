#include "checkpoint/reader.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <numeric>

namespace thole::checkpoint {
namespace {

// A reader holds the files of so many parts open, and opens those of larger checkpoints when it comes to them.
constexpr std::size_t most_held = 512;

uint64_t product(std::span<const uint64_t> numbers) noexcept {
  return std::accumulate(numbers.begin(), numbers.end(), uint64_t{1}, std::multiplies<>());
}

tl::unexpected<error> none_of(const target &t, const which &w) {
  const std::string folder = t.files->place(t.folder());
  if (w.checkpoint)
    return fail(reason::CheckpointNone, "{} has no committed checkpoint {}", folder, to_text(w.checkpoint));
  if (w.step) return fail(reason::CheckpointNone, "{} has no committed checkpoint of step {}", folder, *w.step);
  return fail(reason::CheckpointNone, "{} has no committed checkpoint: start from the beginning", folder);
}

result<std::optional<committed>> find(target &t, const key_tree &run_keys, const fences &f, const which &w) {
  if (!w.checkpoint) return newest(t, run_keys, f, {w.step});
  const fence_record *last = f.last_accepted();
  THOLE_LET(const auto all, candidates(t, f.newest, w.step));
  for (const candidate &c : all) {
    if (c.checkpoint != w.checkpoint || !c.has_manifest) continue;
    THOLE_LET(committed found, read_manifest(t, run_keys, c.step, c.checkpoint));
    if (last == nullptr || found.body.attempt >= last->attempt) return std::optional<committed>(std::move(found));
  }
  std::optional<committed> out;
  THOLE_TRY(walk_accepted(t, run_keys, f, [&](committed c) -> result<bool> {
    if (c.body.checkpoint != w.checkpoint) return true;
    out = std::move(c);
    return false;
  }));
  return out;
}

}  // namespace

result<std::unique_ptr<reader>> reader::open(target t, const which &w) {
  THOLE_LET(const auto run_keys, open_run_keys(t));
  if (!run_keys) {
    THOLE_TRY(check_store_there(t));
    THOLE_TRY(check_anchor(t, {}, {}));
    return none_of(t, w);
  }
  THOLE_LET(const fences f, read_fences(t, *run_keys));
  THOLE_LET(auto last, newest(t, *run_keys, f, {}));
  THOLE_LET(const bool fresh, check_anchor(t, f, last));
  THOLE_TRY(update_anchor(t, f, last));
  const bool take_last =
      last && (!w.step || *w.step == last->body.step) && (!w.checkpoint || w.checkpoint == last->body.checkpoint);
  if (!take_last) {
    THOLE_LET(last, find(t, *run_keys, f, w));
  }
  if (!last) return none_of(t, w);
  std::unique_ptr<reader> r(new reader(std::move(t), std::move(*last), fresh));
  THOLE_TRY(r->check_presence());
  return r;
}

// A manifest is put only after all parts; one that is missing now was taken away.
result<> reader::check_presence() {
  parts_.resize(found_.body.parts.size());
  files_.resize(parts_.size());
  for (uint32_t i = 0; i < parts_.size(); ++i) {
    const std::string path = found_.folder + "/" + part_name(i);
    THOLE_LET(auto file, target_.files->open(path));
    const std::string name = target_.files->place(path);
    if (file == nullptr) return fail(reason::PartMissing, "{} is not there; restore an older step", name);
    if (file->size() != found_.body.parts[i].file_len)
      return fail(reason::CheckpointDamaged, "{} has {} bytes and should have {}; restore an older step", name,
                  file->size(), found_.body.parts[i].file_len);
    if (parts_.size() <= most_held) files_[i] = std::move(file);
  }
  return {};
}

result<container_reader *> reader::part(uint32_t index) {
  if (parts_[index] == nullptr) {
    header expected;
    expected.kind = file_kind::part;
    expected.part = index;
    expected.parts = static_cast<uint32_t>(found_.body.parts.size());
    expected.step = found_.body.step;
    expected.attempt = found_.body.attempt;
    expected.checkpoint = found_.body.checkpoint;
    expected.run = found_.body.run;
    const std::string path = found_.folder + "/" + part_name(index);
    const std::string name = target_.files->place(path);
    if (parts_.size() > most_held) {
      for (auto &p : parts_) p.reset();
    }
    if (files_[index] == nullptr) {
      THOLE_LET(files_[index], target_.files->open(path));
      if (files_[index] == nullptr) return fail(reason::PartMissing, "{} is not there; restore an older step", name);
    }
    THOLE_LET(auto file, container_reader::open(std::move(files_[index]), name, expected, found_.keys));
    if (file->identity() != found_.body.parts[index])
      return fail(reason::CheckpointDamaged, "{} is not the part that was committed; restore an older step", name);
    parts_[index] = std::move(file);
  }
  return parts_[index].get();
}

// Copies the rows that a box has in common with those that are wanted, in the longest runs that are contiguous on both
// sides: the inner dimensions that the box has whole, and one more.
result<> reader::read_segment(const manifest_item &item, const segment &s, uint64_t first, uint64_t rows,
                              octets_out to) {
  const auto &shape = item.head.shape;
  const uint64_t size = *element_size(item.head.dtype);
  THOLE_LET(container_reader * file, part(s.part));
  if (shape.empty()) return file->read(s.offset, to);
  const uint64_t low = std::max(first, s.where.start[0]);
  const uint64_t high = std::min(first + rows, s.where.start[0] + s.where.extent[0]);
  if (low >= high) return {};

  std::vector<uint64_t> from(shape.size());      // where the box begins in `to`, per dimension
  std::vector<uint64_t> count = s.where.extent;  // what is copied
  for (std::size_t d = 0; d < shape.size(); ++d) from[d] = s.where.start[d];
  from[0] = low - first;
  count[0] = high - low;
  std::size_t k = shape.size() - 1;
  while (k > 0 && s.where.extent[k] == shape[k]) --k;
  const uint64_t inner = product(std::span(shape).subspan(k + 1)) * size;
  const uint64_t run = count[k] * inner;

  std::vector<uint64_t> at(k, 0);  // an odometer over the dimensions outside the run
  for (;;) {
    uint64_t source = 0;
    uint64_t destination = 0;
    for (std::size_t d = 0; d <= k; ++d) {
      const uint64_t i = d < k ? at[d] : 0;
      source = source * s.where.extent[d] + i + (d == 0 ? low - s.where.start[0] : 0);
      destination = destination * (d == 0 ? 1 : shape[d]) + from[d] + i;
    }
    THOLE_TRY(file->read(s.offset + source * inner, to.subspan(destination * inner, run)));
    std::size_t d = k;
    while (d > 0 && ++at[d - 1] == count[d - 1]) at[--d] = 0;
    if (d == 0) return {};
  }
}

result<> reader::get_rows(const manifest_item &item, uint64_t first, uint64_t rows, octets_out to) {
  for (const segment &s : item.segments)
    if (auto done = read_segment(item, s, first, rows, to); !done) {
      if (!to.empty()) OPENSSL_cleanse(to.data(), to.size());
      return done;
    }
  return {};
}

result<> reader::get_value(const manifest_item &item, octets_out to) {
  const segment &s = item.segments.front();
  THOLE_LET(container_reader * file, part(s.part));
  return file->read(s.offset, to);
}

result<verified> reader::verify() {
  verified out;
  std::vector<std::vector<part_item>> tables;
  for (uint32_t i = 0; i < parts_.size(); ++i) {
    THOLE_LET(container_reader * file, part(i));
    THOLE_LET(const uint64_t chunks, file->check_all());
    THOLE_LET(const auto table, file->table());
    THOLE_LET(auto items, decode_table(table, file->identity().plain_len,
                                       target_.files->place(found_.folder + "/" + part_name(i))));
    tables.push_back(std::move(items));
    out.chunks += chunks;
    out.bytes += file->identity().plain_len;
    ++out.parts;
  }
  // The manifest says what the parts say.
  manifest again = found_.body;
  THOLE_LET(again.items, agree(std::move(tables)));
  if (encode_manifest(again) != encode_manifest(found_.body))
    return fail(reason::CheckpointDamaged, "{}: the manifest does not say what its parts say", place());
  return out;
}

}  // namespace thole::checkpoint
