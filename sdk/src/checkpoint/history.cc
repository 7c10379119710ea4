#include "checkpoint/history.h"

#include <algorithm>
#include <cstring>

namespace thole::checkpoint {
namespace {

// A file that was read whole, so that what is hashed is what is parsed.
class memory_file final : public in_file {
 public:
  memory_file(std::string bytes, std::string name) : bytes_(std::move(bytes)), name_(std::move(name)) {}
  uint64_t size() const override { return bytes_.size(); }
  result<> read_at(uint64_t offset, octets_out to) override {
    if (offset > bytes_.size() || to.size() > bytes_.size() - offset)
      return fail(reason::CheckpointDamaged, "{} was cut; restore an older step", name_);
    if (!to.empty()) std::memcpy(to.data(), bytes_.data() + offset, to.size());  // of nothing, the place may be NULL
    return {};
  }

 private:
  std::string bytes_;
  std::string name_;
};

// An attempt number that gives a folder its name, where the manifest's own header cannot be trusted.
uint64_t attempt_of(id128 run, uint64_t step, id128 checkpoint, uint64_t most) {
  for (uint64_t a = std::min<uint64_t>(most, 4096); a >= 1; --a)
    if (checkpoint_id(run, a, step) == checkpoint) return a;
  return 0;
}

// What the clear headers say, the manifest's or a part's; believed only where the folder's name follows from it.
result<> look_at(target &t, candidate &c) {
  THOLE_LET(const auto names, t.files->list(c.folder));
  for (const store_entry &e : names) {
    const bool is_manifest = e.name == manifest_name;
    c.has_manifest = c.has_manifest || is_manifest;
    if (c.attempt != 0 || (!is_manifest && !parse_part_name(e.name))) continue;
    const auto h = peek_header(*t.files, c.folder + "/" + e.name);
    if (!h || !*h || checkpoint_id(t.run, (*h)->attempt, c.step) != c.checkpoint) continue;
    c.attempt = (*h)->attempt;
    c.parts = (*h)->parts;
  }
  return {};
}

result<> add_step(target &t, const std::string &name, uint64_t step, std::vector<candidate> &out) {
  const std::string folder = t.folder() + "/" + name;
  THOLE_LET(const auto names, t.files->list(folder));
  for (const store_entry &e : names) {
    const auto id = parse_id(e.name);
    if (!e.folder || !id) continue;
    candidate c{step, *id, folder + "/" + e.name, 0, false, 0};
    THOLE_TRY(look_at(t, c));
    out.push_back(std::move(c));
  }
  return {};
}

}  // namespace

result<fences> read_fences(target &t, const key_tree &run_keys) {
  fences out;
  THOLE_LET(const auto names, t.files->list(t.folder()));
  for (const store_entry &e : names) {
    const auto named = parse_fence_name(e.name);
    if (!named) continue;
    const std::string path = t.folder() + "/" + e.name;
    const std::string place = t.files->place(path);
    THOLE_LET(const auto bytes, read_small(*t.files, path, fence_size));
    if (!bytes) continue;
    THOLE_LET(const fence_record r, parse_fence(octets_of(*bytes), place));
    THOLE_LET(const digest32 mac, run_keys.mac("fence", octets_of(*bytes).first(fence_authenticated)));
    if (!equal(mac, octets_of(*bytes).last(32)) || r.kind != named->first || r.attempt != named->second ||
        r.run != t.run)
      return fail(reason::CheckpointDamaged, "{} is damaged or forged; bring it back from a copy", place);
    out.newest = std::max(out.newest, r.attempt);
    if (r.kind == fence_kind::accepted) out.accepted[r.attempt] = r;
  }
  return out;
}

result<> check_not_fenced(const fences &f, uint64_t attempt) {
  if (f.newest <= attempt) return {};
  return fail(reason::AttemptFenced,
              "attempt {} has begun, this is attempt {}: end this process, its work is being redone", f.newest,
              attempt);
}

result<> check_not_past(target &t, uint64_t attempt, uint64_t step) {
  THOLE_LET(const auto names, t.files->list(t.folder()));
  for (const store_entry &e : names) {
    const auto number = parse_step_folder(e.name);
    if (!e.folder || !number || *number <= step) continue;
    const std::string folder = checkpoint_folder(t.run, *number, checkpoint_id(t.run, attempt, *number));
    THOLE_LET(const auto manifest, t.files->open(folder + "/" + std::string(manifest_name)));
    if (manifest != nullptr)
      return fail(
          reason::StepPast,
          "attempt {} has committed step {}, and this is step {}: save a later one, or go back in a new attempt",
          attempt, *number, step);
  }
  return {};
}

result<std::vector<candidate>> candidates(target &t, uint64_t newest_fence, std::optional<uint64_t> step) {
  std::vector<candidate> out;
  THOLE_LET(const auto names, t.files->list(t.folder()));
  for (const store_entry &e : names) {
    const auto number = parse_step_folder(e.name);
    if (e.folder && number && (!step || *step == *number)) THOLE_TRY(add_step(t, e.name, *number, out));
  }
  uint64_t most = std::max<uint64_t>(newest_fence, 1);
  for (const candidate &c : out) most = std::max(most, c.attempt);
  for (candidate &c : out)
    if (c.attempt == 0) c.attempt = attempt_of(t.run, c.step, c.checkpoint, most);
  std::sort(out.begin(), out.end(), [](const candidate &a, const candidate &b) {
    return std::tie(a.attempt, a.step, a.checkpoint) > std::tie(b.attempt, b.step, b.checkpoint);
  });
  return out;
}

result<committed> read_manifest(target &t, const key_tree &run_keys, uint64_t step, id128 checkpoint) {
  committed c;
  c.folder = checkpoint_folder(t.run, step, checkpoint);
  const std::string path = c.folder + "/" + std::string(manifest_name);
  const std::string name = t.files->place(path);
  THOLE_LET(const auto bytes, read_small(*t.files, path, most_manifest));
  if (!bytes) return fail(reason::CheckpointNone, "{} is not there: the checkpoint is not committed", name);
  c.file_len = bytes->size();
  THOLE_LET(c.hash, sha256({octets_of(*bytes)}));
  if (bytes->size() < page) return fail(reason::CheckpointDamaged, "{} was cut; restore an older step", name);
  THOLE_LET(const header head, parse_header(octets_of(*bytes).first(page), name));
  header expected = head;
  expected.kind = file_kind::manifest;
  expected.step = step;
  expected.checkpoint = checkpoint;
  expected.run = t.run;
  THOLE_LET(c.keys, checkpoint_keys(t, run_keys, c.folder, checkpoint, false));
  THOLE_LET(auto file, container_reader::open(std::make_unique<memory_file>(*bytes, name), name, expected, c.keys));
  THOLE_TRY(file->check_all());
  std::vector<unsigned char> body(file->shape().plain_len);
  THOLE_TRY(file->read(0, body));
  THOLE_LET(c.body, decode_manifest(body, name));
  if (c.body.run != t.run || c.body.checkpoint != checkpoint || c.body.step != step || c.body.attempt != head.attempt ||
      c.body.parts.size() != head.parts || file->shape().table_len != 0)
    return fail(reason::CheckpointDamaged, "{} contradicts its own header", name);
  return c;
}

result<std::optional<committed>> newest(target &t, const key_tree &run_keys, const fences &f, const wanted &w) {
  const fence_record *last = nullptr;
  for (const auto &[attempt, record] : f.accepted)
    if (attempt < w.below_attempt) last = &record;
  THOLE_LET(const auto all, candidates(t, f.newest, w.step));
  for (const candidate &c : all)
    if (c.has_manifest && c.attempt != 0 && c.attempt < w.below_attempt &&
        (last == nullptr || c.attempt >= last->attempt)) {
      // The newest by name. If it does not hold, the answer is that, and not silently an older one.
      THOLE_LET(committed found, read_manifest(t, run_keys, c.step, c.checkpoint));
      return std::optional<committed>(std::move(found));
    }
  std::optional<committed> out;
  fences seen = f;
  seen.accepted.erase(seen.accepted.lower_bound(w.below_attempt), seen.accepted.end());
  THOLE_TRY(walk_accepted(t, run_keys, seen, [&](committed c) -> result<bool> {
    if (w.step && c.body.step != *w.step) return true;
    out = std::move(c);
    return false;
  }));
  return out;
}

}  // namespace thole::checkpoint
