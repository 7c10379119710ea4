#include "core/checkpoints.h"

#include <sys/stat.h>

#include <optional>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "core/documents.h"

namespace thole::local {
namespace {

constexpr std::string_view states[] = {"unknown", "committed", "incomplete", "fenced", "damaged"};

json info_json(const thole_checkpoint_info &i) {
  const auto state = static_cast<std::size_t>(i.state);
  return {{"checkpoint", id_text(i.checkpoint)},
          {"state", std::string(state < std::size(states) ? states[state] : states[0])},
          {"step", i.step},
          {"attempt", i.attempt},
          {"sequence", i.sequence},
          {"parts", i.parts},
          {"partsPresent", i.parts_present},
          {"bytes", i.bytes},
          {"fileBytes", i.file_bytes},
          {"fresh", i.freshness == THOLE_FRESHNESS_PROVEN},
          {"committed", i.committed_unix_ns == 0 ? std::string() : utc_text(i.committed_unix_ns)},
          {"path", own(i.path)},
          {"reason", own(i.reason)}};
}

json item_json(const thole_item &item) {
  json out = {{"name", utf8_or_replaced(view(item.name))}};
  if (item.kind == THOLE_ITEM_TENSOR) {
    json shape = json::array();
    for (uint32_t d = 0; d < item.dims; ++d) shape.push_back(item.shape[d]);
    out["dtype"] = own(item.dtype);
    out["shape"] = std::move(shape);
    return out;
  }
  static constexpr const char *kinds[] = {"", "tensor", "int", "float", "bool", "text", "bytes"};
  const auto kind = static_cast<std::size_t>(item.kind);
  out["kind"] = kind < std::size(kinds) ? kinds[kind] : "unknown";
  out["bytes"] = item.data.len;
  return out;
}

thole_which which_of(const std::optional<uint64_t> &step) {
  auto w = sized<thole_which>();
  w.by = step ? THOLE_BY_STEP : THOLE_BY_NEWEST;
  w.step = step.value_or(0);
  return w;
}

std::string below(const std::string &folder, const std::string &path) {
  return path.empty() || path[0] == '/' ? path : folder + "/" + path;
}

result<> bind_key(const layout &l, const library &core, const std::string &job_text, const job_spec &spec,
                  const std::string &folder, missing_key without, store_place &place) {
  const key_binding bound = bound_key(job_text, spec.key);
  place.key_helper = bound.helper;
  if (!place.key_helper.empty()) {
    place.key_helper[0] = below(folder, place.key_helper[0]);
    return {};
  }
  place.key_file = bound.file.empty() ? l.keys() + "/" + spec.key + ".key" : below(folder, bound.file);
  if (exists(place.key_file)) return {};
  if (!bound.file.empty())
    return fail(reason::KeyMissing, "the key file {} is not there: `thole key new --file {}` makes one", place.key_file,
                place.key_file);
  if (without == missing_key::fail)
    return fail(reason::KeyMissing,
                "the key {} of this run's checkpoints is gone: put a copy of it back, they cannot be read without it",
                place.key_file);
  THOLE_TRY(call([&](thole_status *s) { return core.root().core->key_new(core.core(), borrow(place.key_file), s); }));
  say("made a new key {}: without it the checkpoints cannot be read, so keep a copy", place.key_file);
  return {};
}

}  // namespace

result<store_place> bind_store(const layout &l, const library &core, const std::string &job_text, const job_spec &spec,
                               const std::string &folder, thole_id run, missing_key without) {
  store_place place;
  place.run = run;
  std::string store = below(folder, bound_store(job_text, spec.store));
  if (store.empty()) {
    store = l.stores() + "/" + spec.store;
    THOLE_TRY(make_private_folder(store));
  }
  place.folder = store + "/" + spec.name + "-" + id_text(run);
  place.anchor = l.job(spec.name) + "/anchor";
  THOLE_TRY(bind_key(l, core, job_text, spec, folder, without, place));
  return place;
}

// Lays the C structs over place_ for one call of f(const thole_checkpoint_api &, const thole_store &).
template <class F>
auto checkpoints::with_store(bool with_key, F &&f) const {
  using answer = decltype(f(std::declval<const thole_checkpoint_api &>(), std::declval<const thole_store &>()));
  auto api = core_.checkpoint();
  if (!api) return answer(tl::unexpected(api.error()));
  std::vector<thole_str> arguments;
  auto key = sized<thole_key>();
  key.kind = place_.key_helper.empty() ? THOLE_KEY_FILE : THOLE_KEY_HELPER;
  key.path = borrow(place_.key_helper.empty() ? place_.key_file : place_.key_helper[0]);
  for (std::size_t i = 1; i < place_.key_helper.size(); ++i) arguments.push_back(borrow(place_.key_helper[i]));
  key.arguments = borrow_list(arguments);
  auto store = sized<thole_store>();
  store.folder = borrow(place_.folder);
  store.run = place_.run;
  store.key = with_key ? &key : nullptr;
  store.anchor = borrow(place_.anchor);
  return f(**api, store);
}

result<checkpoints::newest> checkpoints::fence(uint64_t attempt) const {
  return with_store(true, [&](const auto &api, const thole_store &store) -> result<newest> {
    auto fenced = sized<thole_fenced>();
    THOLE_TRY(call([&](thole_status *s) { return api.fence(core_.core(), &store, attempt, &fenced, s); }));
    return newest{fenced.checkpoint.hi != 0 || fenced.checkpoint.lo != 0, fenced.step};
  });
}

result<json> checkpoints::list(bool with_key) const {
  return with_store(with_key, [&](const auto &api, const thole_store &store) -> result<json> {
    answer_room room;
    auto list = sized<thole_checkpoint_list>();
    THOLE_TRY(call_with_room(
        room, [&](thole_buffer *b, thole_status *s) { return api.list(core_.core(), &store, &list, b, s); }));
    json all = json::array();
    each<thole_checkpoint_info>(list.checkpoints, [&](const thole_checkpoint_info &i) { all.push_back(info_json(i)); });
    return all;
  });
}

result<checkpoints::newest> checkpoints::newest_committed() const {
  THOLE_LET(const json all, list(true));
  for (const json &one : all)
    if (one.at("state") == "committed") return newest{true, one.at("step").get<uint64_t>()};
  return newest{};
}

result<uint64_t> checkpoints::retire(uint32_t keep) const {
  return with_store(true, [&](const auto &api, const thole_store &store) -> result<uint64_t> {
    uint64_t removed = 0;
    THOLE_TRY(call([&](thole_status *s) { return api.retire(core_.core(), &store, keep, &removed, s); }));
    return removed;
  });
}

result<json> checkpoints::verify(const std::optional<uint64_t> &step) const {
  return with_store(true, [&](const auto &api, const thole_store &store) -> result<json> {
    const thole_which which = which_of(step);
    auto verified = sized<thole_verified>();
    THOLE_TRY(call([&](thole_status *s) { return api.verify(core_.core(), &store, &which, &verified, s); }));
    return json{{"parts", verified.parts}, {"chunks", verified.chunks}, {"bytes", verified.bytes}};
  });
}

result<json> checkpoints::inspect(const std::optional<uint64_t> &step) const {
  return with_store(true, [&](const auto &api, const thole_store &store) -> result<json> {
    const thole_which which = which_of(step);
    thole_reader reader{};
    THOLE_TRY(call([&](thole_status *s) { return api.open(core_.core(), &store, &which, &reader, s); }));
    answer_room room;
    auto contents = sized<thole_checkpoint_contents>();
    auto described =
        call_with_room(room, [&](thole_buffer *b, thole_status *s) { return api.describe(reader, &contents, b, s); });
    json out = json::object();
    if (described) {
      if (contents.info != nullptr) out = info_json(*contents.info);
      json items = json::array();
      each<thole_item>(contents.items, [&](const thole_item &item) { items.push_back(item_json(item)); });
      out["items"] = std::move(items);
    }
    THOLE_TRY(call([&](thole_status *s) { return api.close(reader, s); }));
    THOLE_TRY(described);
    return out;
  });
}

}  // namespace thole::local
