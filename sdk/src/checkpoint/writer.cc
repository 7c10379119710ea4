#include "checkpoint/writer.h"

#include <openssl/crypto.h>
#include <thole/checkpoint.h>
#include <time.h>

#include <algorithm>

#include "base/text.h"

namespace thole::checkpoint {
namespace {

int64_t clock_ns(clockid_t clock) noexcept {
  timespec t{};
  clock_gettime(clock, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

result<> check_content(const item_head &head, octets data) {
  if (head.kind == item_kind::boolean && data[0] > 1)
    return fail(reason::ItemBad, "'{}' is a bool of value {}; 0 and 1 are allowed", head.name, data[0]);
  if (head.kind == item_kind::text && !is_utf8(text_of(data)))
    return fail(reason::ItemBad, "'{}' is a text that is not UTF-8: save it as bytes", head.name);
  return {};
}

}  // namespace

result<std::unique_ptr<writer>> writer::begin(target t, const save &s) {
  const int64_t begun = clock_ns(CLOCK_MONOTONIC);
  THOLE_TRY(make_run_folder(t));
  THOLE_LET(key_tree run_keys, make_run_keys(t));
  THOLE_LET(const fences f, read_fences(t, run_keys));
  THOLE_TRY(check_not_fenced(f, s.attempt));
  THOLE_TRY(check_not_past(t, s.attempt, s.step));
  std::unique_ptr<writer> w(new writer(std::move(t), s, std::move(run_keys)));
  w->begun_ns_ = begun;
  THOLE_TRY(w->open_part());
  return w;
}

result<> writer::open_part() {
  store &files = *target_.files;
  checkpoint_ = checkpoint_id(target_.run, save_.attempt, save_.step);
  const std::string step = step_folder(target_.run, save_.step);
  folder_ = checkpoint_folder(target_.run, save_.step, checkpoint_);
  THOLE_TRY(files.make_folder(step));
  THOLE_TRY(files.sync_folder(target_.folder()));
  THOLE_TRY(files.make_folder(folder_));
  THOLE_TRY(files.sync_folder(step));
  const std::string path = folder_ + "/" + part_name(save_.part);
  THOLE_LET(const auto there, files.open(path));
  if (there != nullptr) return fail(reason::PartExists, "{} is sealed already: save each step once", files.place(path));
  THOLE_LET(keys_, checkpoint_keys(target_, run_keys_, folder_, checkpoint_, true));
  if (save_.parts > 1) {
    digest32 key;
    THOLE_TRY(keys_.derive("content", {}, key));
    auto made = gcm::make(gcm::direction::seal, key);
    OPENSSL_cleanse(key.data(), key.size());
    if (!made) return tl::unexpected(made.error());
    content_ = std::move(*made);
  }
  THOLE_LET(temporary_, temporary_name(path));
  THOLE_LET(file_, container_writer::create(files, temporary_, head_of(file_kind::part, save_.part), keys_));
  return {};
}

writer::~writer() {
  file_.reset();
  if (temporary_.empty()) return;
  try {
    static_cast<void>(target_.files->remove(temporary_));
  } catch (...) {
    // Memory is out, and a destructor has nobody to tell: retire removes what is left of dead writers.
  }
}

header writer::head_of(file_kind kind, uint32_t part) const {
  header h;
  h.kind = kind;
  h.chunk_log2 = save_.chunk_log2;
  h.part = part;
  h.parts = save_.parts;
  h.step = save_.step;
  h.attempt = save_.attempt;
  h.checkpoint = checkpoint_;
  h.run = target_.run;
  return h;
}

result<> writer::check_state() const {
  if (state_ == state::broken)
    return fail(reason::WriterBroken, "an earlier call of this writer failed: close it and begin again");
  if (state_ == state::open) return {};
  return fail(reason::WriterSealed, "part {} of step {} is sealed: begin another for the next step", save_.part,
              save_.step);
}

result<> writer::put(const item_head &head, const box &where, octets data) {
  THOLE_TRY(check_state());
  THOLE_TRY(check_item(head, where, data.size(), fmt::format("'{}'", head.name.substr(0, 80))));
  THOLE_TRY(check_content(head, data));
  if (items_.size() >= THOLE_MAX_ITEMS)
    return fail(reason::OverBound, "a part holds at most {} items", THOLE_MAX_ITEMS);
  if (data.size() > most_plain - file_->plain_len())
    return fail(reason::OverBound, "the part would hold more than 4 TiB: save with more ranks");
  if (!names_.insert(head.name).second)
    return fail(reason::ItemBad, "'{}' was put before: each name stands once in a part", head.name);
  auto done = append(head, where, data);
  if (!done) state_ = state::broken;
  return done;
}

result<> writer::append(const item_head &head, const box &where, octets data) {
  part_item item{head, where, file_->plain_len(), data.size(), {}};
  const bool shared = content_ && (head.kind != item_kind::tensor || is_whole(where, head.shape));
  if (!shared) {
    THOLE_TRY(file_->append(data));
  } else {
    THOLE_TRY(content_->begin({}, {}));
    // In pieces that stay in the cache between the two.
    for (octets rest = data; !rest.empty();) {
      const octets piece = rest.first(std::min<std::size_t>(rest.size(), 256 * 1024));
      THOLE_TRY(content_->absorb(piece));
      THOLE_TRY(file_->append(piece));
      rest = rest.subspan(piece.size());
    }
    unsigned char tag[tag_size];
    THOLE_TRY(content_->seal(tag));
    item.digest = text_of(tag);
  }
  items_.push_back(std::move(item));
  return {};
}

result<> writer::publish() {
  store &files = *target_.files;
  const std::string table = encode_table(items_);
  THOLE_LET(identity_, file_->finish(octets_of(table)));
  THOLE_LET(const fences f, read_fences(target_, run_keys_));
  THOLE_TRY(check_not_fenced(f, save_.attempt));
  const std::string path = folder_ + "/" + part_name(save_.part);
  THOLE_LET(const bool first, files.publish(temporary_, path));
  if (!first) return fail(reason::PartExists, "{} is sealed already: save each step once", files.place(path));
  temporary_.clear();
  file_.reset();
  return {};
}

result<sealed> writer::seal() {
  if (state_ != state::published) {
    THOLE_TRY(check_state());
    if (auto done = publish(); !done) {
      state_ = state::broken;
      return tl::unexpected(done.error());
    }
    state_ = state::published;
  }
  // From here a call may be repeated: the part is there, and the commit may become possible.
  sealed out;
  out.bytes = identity_.plain_len;
  out.file_bytes = identity_.file_len;
  out.checkpoint = checkpoint_;
  // Look first, then sync: the names of all parts that were seen are then durable, whoever has published them.
  THOLE_LET(out.missing, count_missing());
  THOLE_TRY(target_.files->sync_folder(folder_));
  if (out.missing == 0) {
    THOLE_TRY(commit());
    out.committed = true;
  }
  if (duration_ns_ == 0) duration_ns_ = clock_ns(CLOCK_MONOTONIC) - begun_ns_;
  out.duration_ns = duration_ns_;
  return out;
}

result<uint32_t> writer::count_missing() {
  THOLE_LET(const auto names, target_.files->list(folder_));
  uint32_t present = 0;
  for (const store_entry &e : names) {
    const auto part = parse_part_name(e.name);
    if (!part) continue;
    if (*part >= save_.parts)
      return fail(reason::PartsDisagree, "there is a part {} and this rank says {} parts", *part, save_.parts);
    ++present;
  }
  return save_.parts - present;
}

}  // namespace thole::checkpoint
