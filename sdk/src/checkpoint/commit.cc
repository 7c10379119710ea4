// The commit: all parts are there; one manifest says that they are one checkpoint.
//
// Any rank may do it, and several at once: publish never replaces, so one manifest stands. It exists only after the
// parts' bytes (out_file::sync before their names), their names and the key's (sync_folder in seal) are durable.
#include <time.h>

#include "checkpoint/writer.h"

namespace thole::checkpoint {
namespace {

int64_t unix_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

result<std::vector<manifest_item>> writer::gather(manifest &m) {
  std::vector<std::vector<part_item>> tables;
  for (uint32_t p = 0; p < save_.parts; ++p) {
    const std::string path = folder_ + "/" + part_name(p);
    const std::string name = target_.files->place(path);
    THOLE_LET(const auto head, peek_header(*target_.files, path));
    if (head && head->parts != save_.parts)
      return fail(reason::PartsDisagree, "part {} says that there are {} parts, part {} says {}", p, head->parts,
                  save_.part, save_.parts);
    header expected = head_of(file_kind::part, p);
    THOLE_LET(auto file, container_reader::open(*target_.files, path, expected, keys_));
    THOLE_LET(const auto table, file->table());
    THOLE_LET(auto items, decode_table(table, file->identity().plain_len, name));
    if (p == save_.part && file->identity() != identity_)
      return fail(reason::CheckpointDamaged, "{} is not what this rank has sealed", name);
    tables.push_back(std::move(items));
    m.parts.push_back(file->identity());
  }
  return agree(std::move(tables));
}

result<> writer::commit() {
  store &files = *target_.files;
  manifest m;
  m.run = target_.run;
  m.checkpoint = checkpoint_;
  m.attempt = save_.attempt;
  m.step = save_.step;
  THOLE_LET(m.items, gather(m));

  const std::string path = folder_ + "/" + std::string(manifest_name);
  THOLE_LET(auto there, files.open(path));
  if (there == nullptr) {
    THOLE_LET(const fences f, read_fences(target_, run_keys_));
    THOLE_TRY(check_not_fenced(f, save_.attempt));
    THOLE_TRY(check_not_past(target_, save_.attempt, save_.step));
    THOLE_LET(const auto before, newest(target_, run_keys_, f, {}));
    THOLE_TRY(check_anchor(target_, f, before));
    m.sequence = before ? before->body.sequence + 1 : 1;
    m.committed_unix_ns = unix_ns();
    if (before) m.previous = {before->body.checkpoint, before->body.step, before->hash};

    THOLE_LET(const std::string temporary, temporary_name(path));
    auto put = [&]() -> result<> {
      THOLE_LET(auto file, container_writer::create(files, temporary, head_of(file_kind::manifest, 0), keys_));
      THOLE_TRY(file->append(octets_of(encode_manifest(m))));
      THOLE_TRY(file->finish({}));
      THOLE_LET(const bool first, files.publish(temporary, path));
      if (!first) THOLE_TRY(files.remove(temporary));  // another rank was first: its manifest says the same
      return {};
    };
    if (auto done = put(); !done) {
      static_cast<void>(files.remove(temporary));
      return done;
    }
  }
  // Also for a manifest that another rank has put: it is called committed only when its name is durable.
  THOLE_TRY(files.sync_folder(folder_));
  THOLE_LET(committed mine, read_manifest(target_, run_keys_, save_.step, checkpoint_));
  // A newer attempt that was announced before our manifest was there may not have seen it.
  THOLE_LET(const fences after, read_fences(target_, run_keys_));
  if (after.newest > save_.attempt) {
    const auto next = after.accepted.upper_bound(save_.attempt);
    if (next == after.accepted.end() || next->second.manifest != mine.hash)
      return check_not_fenced(after, save_.attempt);
  }
  return update_anchor(target_, after, std::optional<committed>(std::move(mine)));
}

}  // namespace thole::checkpoint
