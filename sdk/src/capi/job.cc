// The table of thole/draft/job.h.
#include <thole/draft/job.h>

#include <algorithm>

#include "capi/args.h"
#include "capi/guard.h"
#include "capi/room.h"
#include "capi/tables.h"
#include "model/document.h"
#include "model/pool.h"
#include "model/quantity.h"

namespace thole {
namespace {

using model::json;

constexpr uint64_t most_bytes = uint64_t{1} << 20;
// Without a bound in the pool: more than members can ask for.
constexpr uint64_t not_counted = uint64_t{1} << 40;

std::string_view word(const json &value, std::string_view key) {
  const auto it = value.find(key);
  return it == value.end() ? std::string_view{} : std::string_view(it->get_ref<const std::string &>());
}
uint32_t number(const json &value, std::string_view key) {
  return value.at(std::string(key)).get<uint32_t>();
}
// What is asked for is rounded up to a MiB, what there is down.
uint64_t mib(std::string_view memory, bool up) {
  const int64_t bytes = model::parse_memory(memory).value.value_or(0);
  return static_cast<uint64_t>((bytes + (up ? model::mebibyte - 1 : 0)) / model::mebibyte);
}
uint64_t cpu_milli(std::string_view text) {
  return static_cast<uint64_t>(model::parse_cpu(text).value.value_or(0));
}
uint32_t share_milli(std::string_view text) {
  return static_cast<uint32_t>(model::parse_share(text).value.value_or(0));
}

result<std::string_view> take_file(thole_str text, std::string_view what) {
  if (text.len > 0 && text.data == nullptr) return fail(reason::ArgumentMissing, "{}.data is NULL", what);
  if (text.len > most_bytes)
    return fail(reason::OverBound, "{} has {} bytes; {} are the most", what, text.len, most_bytes);
  return view(text);
}

// --- read ---------------------------------------------------------------------------------------------------------

thole_list lay_notes(room &to, const yaml::problems &found) {
  const auto all = found.all();
  auto *notes = to.array<thole_note>(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const yaml::problem &p = all[i];
    notes[i].struct_size = sizeof(thole_note);
    notes[i].line = p.at.line;
    notes[i].column = p.at.column;
    notes[i].field = to.text(p.field);
    notes[i].reason = to.text(name_of(p.why));
    notes[i].message = to.text(p.message);
    notes[i].error = p.remark ? 0 : 1;
  }
  return room::list(notes, all.size());
}

result<std::string_view> take_platform(thole_str platform) {
  THOLE_LET(const std::string_view name, take_text(platform, 64, "platform"));
  if (name.empty() ||
      std::find(std::begin(model::platforms), std::end(model::platforms), name) != std::end(model::platforms))
    return name;
  return fail(reason::ArgumentBad, "there is no platform '{}'{}", name, yaml::suggestion(name, model::platforms));
}

thole_code job_read(thole_core, thole_str text, thole_str platform, thole_document *document, thole_buffer *buffer,
                    thole_status *status) {
  return guard(status, [&]() -> result<> {
    THOLE_TRY(take(document, "document"));
    room to(buffer);
    THOLE_TRY(to.check());
    THOLE_LET(const std::string_view name, take_platform(platform));
    // A file that is too large is the file's error, with a place, and not the caller's.
    if (text.len > 0 && text.data == nullptr) return fail(reason::ArgumentMissing, "text.data is NULL");
    const model::document d = model::read_document(view(text), name);
    thole_document out{};
    out.kind = to.text(d.kind);
    out.name = to.text(d.name);
    if (!d.value.is_null()) out.json = to.text(model::canonical_text(d.value));
    out.notes = lay_notes(to, d.found);
    THOLE_TRY(to.finish());
    THOLE_TRY(give(document, out, "document"));
    return d.found.outcome();
  });
}

// --- gang ---------------------------------------------------------------------------------------------------------

thole_list lay_topology(room &to, const json &levels) {
  auto *out = to.array<thole_topology>(levels.size());
  for (std::size_t i = 0; i < levels.size(); ++i) {
    out[i].struct_size = sizeof(thole_topology);
    out[i].level = to.text(word(levels[i], "level"));
    out[i].mode = word(levels[i], "mode") == "required" ? THOLE_TOPOLOGY_REQUIRED : THOLE_TOPOLOGY_PREFERRED;
  }
  return room::list(out, levels.size());
}

void lay_devices(room &to, const json &role, thole_role &out) {
  if (const auto gpus = role.find("gpus"); gpus != role.end()) {
    out.device_kind = THOLE_KIND_WHOLE;
    out.devices = number(*gpus, "count");
    out.gpu_model = to.text(word(*gpus, "model"));
  } else if (const auto vgpu = role.find("vgpu"); vgpu != role.end()) {
    out.device_kind = THOLE_KIND_VGPU;
    out.devices = number(*vgpu, "count");
    out.vgpu_share_milli = share_milli(word(*vgpu, "share"));
    out.vgpu_memory_mib = mib(word(*vgpu, "memory"), true);
  } else if (const auto mig = role.find("mig"); mig != role.end()) {
    out.device_kind = THOLE_KIND_MIG;
    out.devices = number(*mig, "count");
    out.mig_profile = to.text(word(*mig, "profile"));
  }
}

void lay_role(room &to, const json &role, thole_role &out) {
  out.struct_size = sizeof(thole_role);
  out.name = to.text(word(role, "name"));
  out.members = number(role, "members");
  out.min_members = number(role, "min");
  out.ranks_per_member = number(role, "ranksPerMember");
  out.cpu_milli = cpu_milli(word(role, "cpu"));
  out.memory_mib = mib(word(role, "memory"), true);
  out.topology = lay_topology(to, role["topology"]);
  lay_devices(to, role, out);
}

thole_code job_gang(thole_core, thole_str job_json, thole_id gang, thole_gang_request *request, thole_buffer *buffer,
                    thole_status *status) {
  return guard(status, [&]() -> result<> {
    THOLE_TRY(take(request, "request"));
    room to(buffer);
    THOLE_TRY(to.check());
    THOLE_LET(const std::string_view text, take_file(job_json, "job_json"));
    THOLE_LET(const json job, model::read_canonical(text, model::job_kind));
    const json &spec = job.at("spec");
    const json &roles = spec.at("roles");
    auto *laid = to.array<thole_role>(roles.size());
    for (std::size_t i = 0; i < roles.size(); ++i) lay_role(to, roles[i], laid[i]);
    thole_gang_request out{};
    out.gang = gang;
    out.roles = room::list(laid, roles.size());
    out.topology = lay_topology(to, spec.at("topology"));
    THOLE_TRY(to.finish());
    return give(request, out, "request");
  });
}

// --- nodes --------------------------------------------------------------------------------------------------------

thole_list lay_texts(room &to, const json &texts) {
  auto *out = to.array<thole_str>(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) out[i] = to.text(texts[i].get_ref<const std::string &>());
  return room::list(out, texts.size());
}

thole_list lay_mig(room &to, const json &profiles) {
  auto *out = to.array<thole_mig_profile>(profiles.size());
  for (std::size_t i = 0; i < profiles.size(); ++i) {
    const json &profile = profiles[i];
    const json &starts = profile["starts"];
    auto *places = to.array<thole_mig_place>(starts.size());
    for (std::size_t k = 0; k < starts.size(); ++k) places[k] = {starts[k].get<uint32_t>(), number(profile, "size")};
    out[i].struct_size = sizeof(thole_mig_profile);
    out[i].name = to.text(word(profile, "profile"));
    out[i].memory_mib = mib(word(profile, "memory"), false);
    out[i].count = static_cast<uint32_t>(starts.size());
    out[i].share_milli = share_milli(word(profile, "share"));
    out[i].placements = room::list(places, starts.size());
  }
  return room::list(out, profiles.size());
}

thole_list lay_simulated_gpus(room &to, const json &pool, std::string_view node) {
  const json &spec = pool.at("spec");
  const auto gpus = spec.find("gpus");
  if (gpus == spec.end()) return {};
  const uint32_t count = number(*gpus, "count");
  auto *out = to.array<thole_gpu>(count);
  for (uint32_t i = 0; i < count; ++i) {
    out[i].struct_size = sizeof(thole_gpu);
    out[i].uuid = to.text(model::simulated_uuid(word(pool.at("metadata"), "name"), node, i));
    out[i].model = to.text(word(*gpus, "model"));
    out[i].memory_mib = mib(word(*gpus, "memory"), false);
    out[i].context_mib = mib(word(*gpus, "contextMemory"), true);
    out[i].flags = THOLE_GPU_SIMULATED | (gpus->at("mig").empty() ? 0 : THOLE_GPU_MIG);
    out[i].max_vgpus = spec.contains("vgpu") ? number(spec["vgpu"], "count") : 0;
    out[i].mig = lay_mig(to, gpus->at("mig"));
  }
  return room::list(out, count);
}

void lay_host(const json &spec, thole_node &node) {
  node.struct_size = sizeof(thole_node);
  node.cpu_milli = spec.contains("cpu") ? cpu_milli(word(spec, "cpu")) : not_counted;
  node.memory_mib = spec.contains("memory") ? mib(word(spec, "memory"), false) : not_counted;
}

thole_list lay_simulated_nodes(room &to, const json &pool) {
  const json &spec = pool.at("spec");
  int64_t total = 0;
  for (const json &group : spec.at("nodes")) total += group.at("count").get<int64_t>();
  auto *out = to.array<thole_node>(static_cast<uint64_t>(total));
  std::size_t next = 0;
  for (const json &group : spec.at("nodes")) {
    const auto count = group.at("count").get<int64_t>();
    for (int64_t i = 0; i < count; ++i) {
      thole_node &node = out[next++];
      lay_host(spec, node);
      const std::string name = model::node_name(word(group, "name"), i, count);
      node.name = to.text(name);
      node.domains = lay_texts(to, group.at("domains"));
      node.gpus = lay_simulated_gpus(to, pool, name);
    }
  }
  return room::list(out, static_cast<uint64_t>(total));
}

// A caller's list of profiles, with all that it points to.
result<thole_list> copy_mig(room &to, const thole_list &given) {
  THOLE_TRY(check_list(given, 8, model::most_profiles, "gpu.mig"));
  auto *out = to.array<thole_mig_profile>(given.count);
  for (uint64_t i = 0; i < given.count; ++i) {
    THOLE_LET(out[i], take_at<thole_mig_profile>(given, i, "gpu.mig"));
    out[i].struct_size = sizeof(thole_mig_profile);
    THOLE_LET(const std::string_view name, take_text(out[i].name, THOLE_MAX_NAME, "mig.name"));
    out[i].name = to.text(name);
    const thole_list from = out[i].placements;
    THOLE_TRY(
        check_list(from, sizeof(thole_mig_place), model::most_slices, "mig.placements", alignof(thole_mig_place)));
    auto *places = to.array<thole_mig_place>(from.count);
    for (uint64_t p = 0; p < from.count; ++p) places[p] = *THOLE_AT(from, thole_mig_place, p);
    out[i].placements = room::list(places, from.count);
  }
  return room::list(out, given.count);
}

// The machine's own GPUs, as they are said to be; what the pool wants must fit each of them.
result<thole_list> lay_real_node(room &to, const json &pool, std::string_view name, const thole_list &gpus) {
  const json &spec = pool.at("spec");
  const auto vgpu = spec.find("vgpu");
  auto *out = to.array<thole_gpu>(gpus.count);
  for (uint64_t i = 0; i < gpus.count; ++i) {
    THOLE_LET(thole_gpu gpu, take_at<thole_gpu>(gpus, i, "gpus"));
    gpu.struct_size = sizeof(thole_gpu);
    THOLE_LET(const std::string_view uuid, take_text(gpu.uuid, THOLE_MAX_NAME, "gpu.uuid"));
    if (gpu.context_mib == 0 && spec.contains("gpus")) gpu.context_mib = mib(word(spec["gpus"], "contextMemory"), true);
    if (vgpu != spec.end()) gpu.max_vgpus = number(*vgpu, "count");
    if (vgpu != spec.end() && vgpu->contains("memory") && (gpu.flags & THOLE_GPU_MIG) == 0) {
      const model::fit f =
          model::vgpus_fit(uuid, static_cast<int64_t>(std::min(gpu.memory_mib, not_counted)), number(*vgpu, "count"),
                           static_cast<int64_t>(mib(word(*vgpu, "memory"), true)),
                           static_cast<int64_t>(std::min(gpu.context_mib, not_counted)));
      if (!f.fits) return fail(reason::PoolDoesNotFit, "spec.vgpu: {}", f.sentence);
    }
    // What it points to is the caller's, and outlives the call no longer than it must: copied as well.
    THOLE_LET(gpu.mig, copy_mig(to, gpu.mig));
    gpu.uuid = to.text(uuid);
    THOLE_LET(const std::string_view model, take_text(gpu.model, THOLE_MAX_NAME, "gpu.model"));
    gpu.model = to.text(model);
    out[i] = gpu;
  }
  auto *node = to.array<thole_node>(1);
  lay_host(spec, *node);
  node->name = to.text(name);
  node->gpus = room::list(out, gpus.count);
  return room::list(node, 1);
}

thole_code job_nodes(thole_core, thole_str pool_json, thole_str node, const thole_list *gpus, thole_list *levels,
                     thole_list *nodes, thole_buffer *buffer, thole_status *status) {
  return guard(status, [&]() -> result<> {
    if (levels == nullptr || nodes == nullptr) return fail(reason::ArgumentMissing, "levels or nodes is NULL");
    room to(buffer);
    THOLE_TRY(to.check());
    THOLE_LET(const std::string_view text, take_file(pool_json, "pool_json"));
    THOLE_LET(const json pool, model::read_canonical(text, model::pool_kind));
    const thole_list laid_levels = lay_texts(to, pool.at("spec").at("levels"));
    thole_list laid_nodes{};
    if (pool.at("spec").at("simulated").get<bool>()) {
      laid_nodes = lay_simulated_nodes(to, pool);
    } else {
      THOLE_LET(const std::string_view name, take_text(node, THOLE_MAX_NAME, "node"));
      if (name.empty()) return fail(reason::ArgumentMissing, "node is empty: name the machine");
      const thole_list given = gpus == nullptr ? thole_list{} : *gpus;
      THOLE_TRY(check_list(given, 8, THOLE_MAX_GPUS, "gpus"));
      THOLE_LET(laid_nodes, lay_real_node(to, pool, name, given));
    }
    THOLE_TRY(to.finish());
    *levels = laid_levels;
    *nodes = laid_nodes;
    return {};
  });
}

thole_code job_schema(thole_core, thole_str kind, thole_str *out, thole_buffer *buffer, thole_status *status) {
  return guard(status, [&]() -> result<> {
    if (out == nullptr) return fail(reason::ArgumentMissing, "json is NULL");
    room to(buffer);
    THOLE_TRY(to.check());
    THOLE_LET(const std::string_view name, take_text(kind, 64, "kind"));
    const model::field *description = model::description_of(name);
    if (description == nullptr)
      return fail(reason::KindUnknown, "there is no kind '{}': TrainingJob or NodePool", name);
    const thole_str laid = to.text(model::json_schema(*description).dump(2));
    THOLE_TRY(to.finish());
    *out = laid;
    return {};
  });
}

constexpr thole_job_api table = {sizeof(thole_job_api), job_read, job_gang, job_nodes, job_schema};

}  // namespace

constinit const thole_job_api job_table = table;
}  // namespace thole
