#include "checkpoint/fence.h"

namespace thole::checkpoint {
namespace {

result<bool> put_record(target &t, const key_tree &run_keys, const fence_record &r) {
  const auto fixed = encode(r);
  std::string bytes(text_of(fixed));
  THOLE_LET(const digest32 mac, run_keys.mac("fence", fixed));
  bytes.append(text_of(mac));
  return put_if_absent(*t.files, t.folder() + "/" + fence_name(r.kind, r.attempt), octets_of(bytes));
}

}  // namespace

result<fence_record> fence(target &t, uint64_t attempt) {
  THOLE_TRY(make_run_folder(t));
  THOLE_LET(const key_tree run_keys, make_run_keys(t));
  THOLE_LET(fences f, read_fences(t, run_keys));
  THOLE_TRY(check_not_fenced(f, attempt));
  if (!f.accepted.contains(attempt)) {
    fence_record r;
    r.kind = fence_kind::announced;
    r.run = t.run;
    r.attempt = attempt;
    THOLE_TRY(put_record(t, run_keys, r));
    // Only now look: whatever is committed after this is called fenced by its own writer.
    THOLE_LET(f, read_fences(t, run_keys));
    THOLE_TRY(check_not_fenced(f, attempt));
    THOLE_LET(const auto before, newest(t, run_keys, f, {{}, attempt}));
    THOLE_TRY(check_anchor(t, f, before));
    r.kind = fence_kind::accepted;
    if (before) {
      r.checkpoint = before->body.checkpoint;
      r.step = before->body.step;
      r.sequence = before->body.sequence;
      r.manifest = before->hash;
    }
    THOLE_TRY(put_record(t, run_keys, r));
    THOLE_LET(f, read_fences(t, run_keys));  // another caller for the same attempt may have been first
  }
  THOLE_TRY(t.files->sync_folder(t.folder()));
  THOLE_LET(const auto seen, newest(t, run_keys, f, {}));
  THOLE_TRY(check_anchor(t, f, seen));
  THOLE_TRY(update_anchor(t, f, seen));
  return f.accepted.at(attempt);
}

}  // namespace thole::checkpoint
