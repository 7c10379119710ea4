// checkpoint/history.h: which of the checkpoints in a store count: the rules of fencing, and the newest.
//
// Each attempt n leaves two records: fence-n says that it has begun, accept-n which checkpoint of older attempts it
// goes on from. A manifest counts if its attempt is at least that of the newest accept record, or if it is what that
// record names or a predecessor of it. Announcing comes before looking, and a writer looks for announcements after it
// has published its manifest: so one of the two sees the other, and what a writer has called committed is accepted.
#pragma once

#include <map>

#include "checkpoint/contents.h"
#include "checkpoint/target.h"

namespace thole::checkpoint {

struct fences {
  uint64_t newest = 0;                        // the highest attempt that was announced
  std::map<uint64_t, fence_record> accepted;  // by attempt
  const fence_record *last_accepted() const noexcept { return accepted.empty() ? nullptr : &accepted.rbegin()->second; }
};
result<fences> read_fences(target &t, const key_tree &run_keys);
result<> check_not_fenced(const fences &f, uint64_t attempt);
// Steps of an attempt only grow, so that its newest by name is its newest by time. By names alone: no key is needed.
result<> check_not_past(target &t, uint64_t attempt, uint64_t step);

// A folder of a checkpoint, by what names and clear headers tell.
struct candidate {
  uint64_t step = 0;
  id128 checkpoint;
  std::string folder;
  uint64_t attempt = 0;  // 0: nothing tells
  bool has_manifest = false;
  uint32_t parts = 0;  // 0: nothing tells
};
// Newest first: by attempt, then step.
result<std::vector<candidate>> candidates(target &t, uint64_t newest_fence, std::optional<uint64_t> step = {});

// A manifest whose every byte was authenticated.
struct committed {
  manifest body;
  digest32 hash{};  // SHA-256 of the file
  std::string folder;
  key_tree keys;
  uint64_t file_len = 0;
};
result<committed> read_manifest(target &t, const key_tree &run_keys, uint64_t step, id128 checkpoint);

// The newest that counts, of a step if one is given, of attempts below a bound if one is given.
struct wanted {
  std::optional<uint64_t> step;
  uint64_t below_attempt = UINT64_MAX;
};
result<std::optional<committed>> newest(target &t, const key_tree &run_keys, const fences &f, const wanted &w);

// What an accept record names and its predecessors, newest first, as far as they are still there. `visit` answers
// whether to go on.
template <class Visit>
result<> walk_accepted(target &t, const key_tree &run_keys, const fences &f, Visit &&visit);

// --- The anchor: freshness by a file outside the store. ---

struct anchor_state {
  id128 run;
  uint64_t attempt = 0;  // the highest seen
  uint64_t sequence = 0;
  uint64_t step = 0;
  digest32 manifest{};
};
// Compares what the store shows with the anchor. True: the anchor agrees. False: there is none.
// Fails: CheckpointRolledBack.
result<bool> check_anchor(const target &t, const fences &f, const std::optional<committed> &newest);
// Remembers what the store shows, unless the anchor knows newer.
result<> update_anchor(const target &t, const fences &f, const std::optional<committed> &newest);

// --- implementation of the template ---

template <class Visit>
result<> walk_accepted(target &t, const key_tree &run_keys, const fences &f, Visit &&visit) {
  const fence_record *last = f.last_accepted();
  manifest_link link;
  if (last != nullptr) link = {last->checkpoint, last->step, last->manifest};
  while (link.checkpoint) {
    const std::string folder = checkpoint_folder(t.run, link.step, link.checkpoint);
    THOLE_LET(const auto there, t.files->open(folder + "/" + std::string(manifest_name)));
    if (there == nullptr) return {};  // retired, and so is all before it
    THOLE_LET(committed c, read_manifest(t, run_keys, link.step, link.checkpoint));
    if (c.hash != link.hash)
      return fail(reason::CheckpointDamaged, "{} has another manifest than its successor names",
                  t.files->place(folder));
    link = c.body.previous;
    THOLE_LET(const bool more, visit(std::move(c)));
    if (!more) return {};
  }
  return {};
}

}  // namespace thole::checkpoint
