#include "checkpoint/target.h"

#include "checkpoint/history.h"

namespace thole::checkpoint {
namespace {

constexpr std::size_t most_slots = 56 + most_wrapped + 32;

// A slot that is well-formed and stands where it should.
result<std::optional<std::string>> read_slot(target &t, const std::string &path, slot_level level, id128 checkpoint,
                                             key_slot &slot) {
  THOLE_LET(auto bytes, read_small(*t.files, path, most_slots));
  if (!bytes) return bytes;
  THOLE_LET(const parsed_slot parsed, parse_slot(octets_of(*bytes), t.files->place(path)));
  if (parsed.slot.level != level || parsed.slot.run != t.run || parsed.slot.checkpoint != checkpoint)
    return fail(reason::CheckpointDamaged, "{} belongs to another run or checkpoint", t.files->place(path));
  slot = parsed.slot;
  return bytes;
}

// The mac is both: a check of every byte of the file, and a commitment to the key that was unwrapped.
result<key_tree> check_slot(target &t, const std::string &path, const std::string &bytes, const secret &key,
                            id128 checkpoint) {
  THOLE_LET(key_tree keys, key_tree::make(key.view(), t.run, checkpoint));
  const octets all = octets_of(bytes);
  THOLE_LET(const digest32 mac, keys.mac("slots", all.first(all.size() - 32)));
  if (!equal(mac, all.last(32)))
    return fail(reason::CheckpointDamaged, "{} is damaged or forged; bring it back from a copy", t.files->place(path));
  return keys;
}

// Publishes a new key. False: another rank was first.
result<bool> put_slot(target &t, const std::string &path, key_slot slot, const key_tree &keys) {
  std::string bytes = encode(slot);
  THOLE_LET(const digest32 mac, keys.mac("slots", octets_of(bytes)));
  bytes.append(text_of(mac));
  return put_if_absent(*t.files, path, octets_of(bytes));
}

std::string run_slots(const target &t) {
  return t.folder() + "/" + std::string(slots_name);
}

result<const key_source *> source_of(const target &t) {
  if (!t.key) return fail(reason::KeyMissing, "no key is named: set thole_store.key");
  return &*t.key;
}

}  // namespace

result<> check_store_there(target &t) {
  THOLE_LET(const bool there, t.files->is_there());
  if (there) return {};
  return fail(reason::StoreGone, "the store's folder {} is not there: mount it, or correct its path",
              t.files->place(""));
}

result<> make_run_folder(target &t) {
  THOLE_LET(const bool there, t.files->is_there());
  if (!there) {
    // A store that is not mounted must not look like one that nobody has used yet.
    const auto known = check_anchor(t, {}, {});
    if (!known && known.error().why == reason::CheckpointRolledBack) return check_store_there(t);
    THOLE_TRY(known);
  }
  THOLE_TRY(t.files->make_folder(""));
  THOLE_TRY(t.files->sync_folder(".."));
  THOLE_TRY(t.files->make_folder(t.folder()));
  return t.files->sync_folder("");
}

result<std::optional<key_tree>> open_run_keys(target &t) {
  THOLE_LET(const key_source *source, source_of(t));
  const std::string path = run_slots(t);
  key_slot slot;
  THOLE_LET(const auto bytes, read_slot(t, path, slot_level::run, {}, slot));
  if (!bytes) return std::optional<key_tree>{};
  THOLE_LET(const secret key, unwrap(*source, {slot.wrap, slot.wrapped}, t.run));
  THOLE_LET(key_tree keys, check_slot(t, path, *bytes, key, {}));
  return std::optional<key_tree>(std::move(keys));
}

namespace {

result<key_tree> find_or_make_run_keys(target &t) {
  for (;;) {
    THOLE_LET(auto there, open_run_keys(t));
    if (there) return std::move(*there);
    THOLE_LET(const secret key, secret::random());
    THOLE_LET(wrapped_key wrapped, wrap(*t.key, key, t.run));
    // What the helper cannot give back must be known now, not when the checkpoint is needed.
    THOLE_LET(const secret back, unwrap(*t.key, wrapped, t.run));
    if (!equal(back.view(), key.view()))
      return fail(reason::KeyHelperFailed, "the key helper {} does not give back what it has wrapped", t.key->path);
    THOLE_LET(key_tree keys, key_tree::make(key.view(), t.run, {}));
    THOLE_LET(const bool first,
              put_slot(t, run_slots(t), {slot_level::run, t.run, {}, wrapped.kind, std::move(wrapped.bytes)}, keys));
    if (first) return keys;
  }
}

}  // namespace

result<key_tree> make_run_keys(target &t) {
  THOLE_LET(key_tree keys, find_or_make_run_keys(t));
  // Before anything is authenticated under it: a record that outlived its key would be a forgery for ever.
  THOLE_TRY(t.files->sync_folder(t.folder()));
  return keys;
}

result<key_tree> checkpoint_keys(target &t, const key_tree &run_keys, const std::string &folder, id128 checkpoint,
                                 bool create) {
  const std::string path = folder + "/" + std::string(slots_name);
  for (;;) {
    key_slot slot;
    THOLE_LET(const auto bytes, read_slot(t, path, slot_level::checkpoint, checkpoint, slot));
    if (bytes) {
      auto key = unwrap(run_keys, {slot.wrap, slot.wrapped}, t.run, checkpoint);
      // The run's key opened, so it is not the caller's key that is wrong.
      if (!key && key.error().why == reason::KeyWrong)
        return fail(reason::CheckpointDamaged, "{} is damaged or forged; restore an older step", t.files->place(path));
      if (!key) return tl::unexpected(key.error());
      return check_slot(t, path, *bytes, *key, checkpoint);
    }
    if (!create) return fail(reason::CheckpointDamaged, "{} is not there; restore an older step", t.files->place(path));
    THOLE_LET(const secret key, secret::random());
    THOLE_LET(wrapped_key wrapped, wrap(run_keys, key, t.run, checkpoint));
    THOLE_LET(key_tree keys, key_tree::make(key.view(), t.run, checkpoint));
    THOLE_LET(
        const bool first,
        put_slot(t, path, {slot_level::checkpoint, t.run, checkpoint, wrapped.kind, std::move(wrapped.bytes)}, keys));
    if (first) return keys;
  }
}

}  // namespace thole::checkpoint
