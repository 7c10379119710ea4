#include "checkpoint/listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <set>

namespace thole::checkpoint {
namespace {

// What names and sizes tell.
result<> count_files(target &t, listed &l) {
  THOLE_LET(const auto names, t.files->list(l.where.folder));
  for (const store_entry &e : names) {
    if (e.folder) continue;
    THOLE_LET(const auto file, t.files->open(l.where.folder + "/" + e.name));
    if (file != nullptr) l.file_bytes += file->size();
    if (parse_part_name(e.name)) ++l.parts_present;
  }
  if (l.where.parts == 0 && l.where.has_manifest) l.where.parts = l.parts_present;
  l.place = t.files->place(l.where.folder);
  l.why = l.where.has_manifest              ? ""
          : l.parts_present < l.where.parts ? fmt::format("{} of {} parts are there", l.parts_present, l.where.parts)
          : l.where.parts == 0              ? "no part is there"
                                            : "all parts are there, and no rank has committed them";
  l.state = l.where.has_manifest ? status_of::committed : status_of::incomplete;
  return {};
}

void judge(listed &l, const committed &c) {
  l.where.parts = static_cast<uint32_t>(c.body.parts.size());
  l.sequence = c.body.sequence;
  l.bytes = c.body.bytes();
  l.committed_unix_ns = c.body.committed_unix_ns;
}

// With the key: whether a manifest holds, and whether it counts.
result<> examine(target &t, const key_tree &run_keys, const fences &f, const std::set<id128> &accepted, listed &l) {
  if (!l.where.has_manifest) return {};
  auto c = read_manifest(t, run_keys, l.where.step, l.where.checkpoint);
  if (!c) {
    l.state = status_of::damaged;
    l.why = std::string(c.error().text());
    return {};
  }
  judge(l, *c);
  const fence_record *last = f.last_accepted();
  if (last != nullptr && c->body.attempt < last->attempt && !accepted.contains(l.where.checkpoint)) {
    l.state = status_of::fenced;
    l.why = fmt::format("attempt {} committed it after attempt {} had begun", c->body.attempt, last->attempt);
  } else if (l.parts_present != l.where.parts) {
    l.state = status_of::damaged;
    l.why = fmt::format("{} of {} parts are there", l.parts_present, l.where.parts);
  }
  return {};
}

// The manifest first, durably: a stop in between leaves nothing that looks committed.
result<> remove_checkpoint(target &t, const std::string &folder) {
  THOLE_TRY(t.files->remove(folder + "/" + std::string(manifest_name)));
  const auto synced = t.files->sync_folder(folder);
  THOLE_LET(const auto names, t.files->list(folder));
  if (!synced && synced.error().os_errno == ENOENT && names.empty())
    return check_store_there(t);  // another retire was faster
  THOLE_TRY(synced);
  for (const store_entry &e : names)
    if (!e.folder) THOLE_TRY(t.files->remove(folder + "/" + e.name));
  THOLE_TRY(t.files->remove_folder(folder));
  return t.files->remove_folder(folder.substr(0, folder.rfind('/')));
}

// Left by writers that were killed.
result<> remove_temporaries(target &t, const std::string &folder) {
  THOLE_LET(const auto names, t.files->list(folder));
  for (const store_entry &e : names)
    if (!e.folder && is_temporary(e.name)) THOLE_TRY(t.files->remove(folder + "/" + e.name));
  return {};
}

// Whether nobody can make a checkpoint of it any more: its attempt is over, or has committed a later step.
bool is_over(const listed &l, const fences &f, const listed &newest_committed) {
  if (l.where.attempt < f.newest) return true;
  return l.where.attempt == newest_committed.where.attempt && l.where.step < newest_committed.where.step;
}

}  // namespace

result<std::vector<listed>> list(target &t) {
  THOLE_TRY(check_store_there(t));
  std::optional<key_tree> run_keys;
  fences f;
  if (t.key) {
    THOLE_LET(run_keys, open_run_keys(t));
    if (run_keys) {
      THOLE_LET(f, read_fences(t, *run_keys));
    }
  }
  std::set<id128> accepted;
  if (run_keys) {
    // A break in the chain is told by the one that is damaged; here it only ends the walk.
    static_cast<void>(walk_accepted(t, *run_keys, f, [&](committed c) -> result<bool> {
      accepted.insert(c.body.checkpoint);
      return true;
    }));
  }
  bool fresh = false;
  if (run_keys && !t.anchor.empty())
    if (auto last = newest(t, *run_keys, f, {}); last)
      if (auto agrees = check_anchor(t, f, *last); agrees) fresh = *agrees;
  std::vector<listed> out;
  THOLE_LET(auto all, candidates(t, f.newest));
  for (candidate &c : all) {
    listed l;
    l.where = std::move(c);
    THOLE_TRY(count_files(t, l));
    if (run_keys) THOLE_TRY(examine(t, *run_keys, f, accepted, l));
    l.fresh = fresh && l.state == status_of::committed;
    out.push_back(std::move(l));
  }
  return out;
}

result<uint64_t> retire(target &t, uint32_t keep) {
  if (!t.key) return fail(reason::KeyMissing, "no key is named: retire must know what is committed");
  THOLE_LET(const auto all, list(t));
  THOLE_LET(const auto run_keys, open_run_keys(t));
  if (!run_keys) return 0;
  THOLE_LET(const fences f, read_fences(t, *run_keys));
  const auto newest_committed =
      std::find_if(all.begin(), all.end(), [](const listed &l) { return l.state == status_of::committed; });
  if (newest_committed == all.end()) return 0;
  std::vector<const listed *> going;
  uint32_t kept = 0;
  for (const listed &l : all) {
    if (l.state == status_of::committed && kept < keep) {
      ++kept;
      // Another rank of a running attempt may be about to find the newest one committed.
      if (l.where.attempt < f.newest || &l != &*newest_committed) THOLE_TRY(remove_temporaries(t, l.where.folder));
    } else if (l.state == status_of::committed || l.state == status_of::fenced) {
      going.push_back(&l);
    } else if (&l > &*newest_committed && l.where.attempt != 0 && is_over(l, f, *newest_committed)) {
      going.push_back(&l);
    }
  }
  // Oldest first: what is left is always the newest part of the history.
  for (auto at = going.rbegin(); at != going.rend(); ++at) THOLE_TRY(remove_checkpoint(t, (*at)->where.folder));
  return going.size();
}

}  // namespace thole::checkpoint
