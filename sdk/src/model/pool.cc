#include "model/pool.h"

#include <fmt/format.h>

#include <set>

#include "base/id.h"
#include "model/metadata.h"
#include "model/quantity.h"

namespace thole::model {
namespace {

using enum type;

constexpr int64_t mib = mebibyte, pib = int64_t{1} << 50;

constexpr field mig_fields[] = {
    {.name = "profile", .doc = "The profile's name, such as `1g.18gb`.", .required = true, .least = 1, .most = 64},
    {.name = "memory",
     .what = memory,
     .doc = "What an instance gives to its holder.",
     .required = true,
     .least = mib,
     .most = pib},
    {.name = "share", .what = share, .doc = "Part of the GPU's compute.", .required = true, .least = 1, .most = 1000},
    {.name = "size",
     .what = integer,
     .doc = "Memory slices that an instance covers.",
     .required = true,
     .least = 1,
     .most = 64},
    {.name = "starts",
     .what = list,
     .doc = "First memory slice of each place where an instance may lie.",
     .required = true,
     .least = 1,
     .most = 64,
     .element = integer},
};

constexpr field gpus_fields[] = {
    {.name = "count", .what = integer, .doc = "GPUs of a node.", .fallback = "1", .least = 1, .most = 32},
    {.name = "memory",
     .what = memory,
     .doc = "What a GPU reports as its own: an 80 GB H100 reports 81559Mi. Simulated pools must say it; of a real one "
            "the device is asked.",
     .least = mib,
     .most = pib},
    {.name = "model", .doc = "The model's name.", .fallback = "simulated", .least = 1, .most = 253},
    {.name = "contextMemory",
     .what = memory,
     .doc = "What a process's context costs beside its cap, charged once for each vGPU.",
     .fallback = "512Mi",
     .least = 0,
     .most = pib},
    {.name = "mig",
     .what = list,
     .doc = "MIG profiles that the GPUs offer; they are then in MIG mode and take nothing else.",
     .most = 32,
     .fields = mig_fields},
};

constexpr field vgpu_fields[] = {
    {.name = "memory",
     .what = memory,
     .doc = "Size of the vGPUs for which the GPUs are meant.",
     .least = mib,
     .most = pib},
    {.name = "count",
     .what = integer,
     .doc = "vGPUs that may share a GPU. With memory: so many of that size, each with its context, must fit a GPU.",
     .fallback = "16",
     .least = 1,
     .most = 64},
    {.name = "share",
     .what = share,
     .doc = "Part of a GPU's compute for which each is meant; count times share is 1 at most.",
     .least = 1,
     .most = 1000},
};

constexpr field node_fields[] = {
    {.name = "name",
     .doc = "A node's name; with a count above 1 they are NAME-0, NAME-1, ...",
     .required = true,
     .least = 1,
     .most = 240},
    {.name = "count", .what = integer, .doc = "Nodes of this kind.", .fallback = "1", .least = 1, .most = 10'000},
    {.name = "domains", .what = list, .doc = "Their domain at each level, outermost first.", .most = 6},
};

constexpr field spec_fields[] = {
    {.name = "simulated",
     .what = boolean,
     .doc = "`true`: there is no hardware behind it, and every output says so. `false`: the machine's own GPUs.",
     .fallback = "false"},
    {.name = "levels",
     .what = list,
     .doc = "Levels of the topology, outermost first, such as `[zone, rack]`; `node` is always below them.",
     .most = 6,
     .element = name},
    {.name = "nodes",
     .what = list,
     .doc = "Simulated nodes.",
     .computed = "one, named as the pool; none if not simulated",
     .most = 64,
     .fields = node_fields},
    {.name = "gpus", .what = object, .doc = "GPUs of each node.", .fields = gpus_fields},
    {.name = "vgpu",
     .what = object,
     .doc = "How the GPUs are meant to be shared. Without it: up to 16 vGPUs of any size.",
     .fields = vgpu_fields},
    {.name = "cpu",
     .what = cpu,
     .doc = "Cores of a node that members may use. Without it cores are not counted.",
     .least = 1,
     .most = 10'000'000},
    {.name = "memory",
     .what = memory,
     .doc = "Memory of a node that members may use. Without it memory is not counted.",
     .least = mib,
     .most = pib},
};

constexpr field pool_fields[] = {
    api_version_field,
    kind_field,
    metadata_field,
    {.name = "spec", .what = object, .doc = "What there is.", .required = true, .fields = spec_fields},
    status_field,
};

int64_t mib_down(const json &value) {
  return *parse_memory(value.get_ref<const std::string &>()).value / mib;
}
int64_t mib_up(const json &value) {
  return (*parse_memory(value.get_ref<const std::string &>()).value + mib - 1) / mib;
}

yaml::place place_of(const yaml::node &root, std::initializer_list<std::string_view> keys) {
  const yaml::node *n = find(root, keys);
  return n == nullptr ? root.at : n->at;
}

void check_vgpus(const json &spec, const yaml::node &root, const reading &in) {
  const auto vgpu = spec.find("vgpu");
  if (vgpu == spec.end()) return;
  const auto gpus = spec.find("gpus");
  const auto count = (*vgpu)["count"].get<int64_t>();
  if (vgpu->contains("share"))
    if (const int64_t share = *parse_share((*vgpu)["share"].get<std::string>()).value; share * count > 1000)
      in.found.refuse(reason::PoolDoesNotFit, place_of(root, {"spec", "vgpu", "share"}), "spec.vgpu.share",
                      "{} times {} is more than one GPU: write {} or less", count, share_text(share),
                      share_text(1000 / count));
  if (gpus == spec.end()) return;
  if (!(*gpus)["mig"].empty())
    in.found.refuse(reason::FieldBad, place_of(root, {"spec", "vgpu"}), "spec.vgpu",
                    "GPUs in MIG mode take MIG instances only: remove vgpu, or gpus.mig");
  if (!vgpu->contains("memory") || !gpus->contains("memory")) return;
  const fit f = vgpus_fit((*gpus)["model"].get<std::string>(), mib_down((*gpus)["memory"]), count,
                          mib_up((*vgpu)["memory"]), mib_up((*gpus)["contextMemory"]));
  const bool counted = find(root, {"spec", "vgpu", "count"}) != nullptr;
  if (!f.fits)
    in.found.refuse(reason::PoolDoesNotFit,
                    counted ? place_of(root, {"spec", "vgpu", "count"}) : place_of(root, {"spec", "vgpu", "memory"}),
                    counted ? "spec.vgpu.count" : "spec.vgpu.memory", "{}", f.sentence);
}

void check_nodes(const json &spec, const yaml::node &n, const reading &in) {
  std::set<std::string> names;
  int64_t total = 0;
  for (std::size_t i = 0; i < spec["nodes"].size(); ++i) {
    const json &group = spec["nodes"][i];
    const yaml::node &at = n.children[i];
    const std::string path = yaml::join("spec.nodes", i);
    total += group["count"].get<int64_t>();
    if (!names.insert(group["name"].get<std::string>()).second)
      in.found.refuse(reason::FieldBad, at.at, yaml::join(path, "name"),
                      "'{}' stands twice: raise its count, or rename it", group["name"].get<std::string>());
    if (group["domains"].size() != spec["levels"].size())
      in.found.refuse(reason::FieldBad, at.at, yaml::join(path, "domains"),
                      "{} domains for {} levels: name one for each", group["domains"].size(), spec["levels"].size());
  }
  if (total > 10'000)
    in.found.refuse(reason::FieldBad, n.at, "spec.nodes", "{} nodes; a pool has 10000 at most", total);
}

void complete_simulated(json &pool, const yaml::node &root, const reading &in) {
  json &spec = pool["spec"];
  const yaml::node &n = *root.find("spec");
  if (const auto gpus = spec.find("gpus"); gpus != spec.end() && !gpus->contains("memory"))
    in.found.refuse(reason::FieldMissing, place_of(root, {"spec", "gpus"}), "spec.gpus.memory",
                    "is missing: what a simulated GPU reports, such as 96Gi");
  if (!spec["nodes"].is_null()) return check_nodes(spec, *n.find("nodes"), in);
  spec["nodes"] = json::array({{{"name", pool["metadata"]["name"]}, {"count", 1}, {"domains", json::array()}}});
  if (!spec["levels"].empty())
    in.found.refuse(reason::FieldMissing, n.at, "spec.nodes", "is missing: levels need nodes with their domains");
}

void complete_real(json &pool, const yaml::node &root, const reading &in) {
  json &spec = pool["spec"];
  if (spec["nodes"].is_null()) spec["nodes"] = json::array();
  if (!spec["nodes"].empty())
    in.found.refuse(reason::FieldBad, place_of(root, {"spec", "nodes"}), "spec.nodes",
                    "nodes are described only where `simulated: true` stands: remove them, or add it");
  if (!spec["levels"].empty())
    in.found.refuse(reason::FieldBad, place_of(root, {"spec", "levels"}), "spec.levels",
                    "one real machine has no levels above it: remove them");
  if (spec.contains("gpus") && !spec["gpus"]["mig"].empty())
    in.found.refuse(reason::FieldBad, place_of(root, {"spec", "gpus", "mig"}), "spec.gpus.mig",
                    "a real GPU says itself what MIG profiles it offers: remove it");
}

}  // namespace

constinit const field pool_description = {.name = "NodePool", .what = object, .fields = pool_fields};

void complete_pool(json &pool, const yaml::node &root, const reading &in) {
  if (pool["spec"]["simulated"].get<bool>()) complete_simulated(pool, root, in);
  else complete_real(pool, root, in);
  check_vgpus(pool["spec"], root, in);
}

fit vgpus_fit(std::string_view gpu, int64_t gpu_mib, int64_t count, int64_t vgpu_mib, int64_t context_mib) {
  const int64_t each = vgpu_mib + context_mib;
  if (count * each <= gpu_mib) return {};
  std::string sentence =
      fmt::format("{} vGPUs of {} and as many contexts of {} are {} MiB; {} reports {} MiB", count,
                  memory_text(vgpu_mib * mib), memory_text(context_mib * mib), count * each, gpu, gpu_mib);
  const int64_t fewer = gpu_mib / each;
  int64_t smaller = gpu_mib / count - context_mib;
  if (smaller >= 1024) smaller -= smaller % 1024;
  if (fewer > 0) sentence += fmt::format(": {} x {} fit", fewer, memory_text(vgpu_mib * mib));
  if (smaller > 0)
    sentence += fmt::format("{} {} x {}", fewer > 0 ? ", or" : ": what fits is", count, memory_text(smaller * mib));
  return {false, sentence};
}

std::string node_name(std::string_view group, int64_t i, int64_t count) {
  return count == 1 ? std::string(group) : fmt::format("{}-{}", group, i);
}

std::string simulated_uuid(std::string_view pool, std::string_view node, int64_t gpu) {
  return "SIM-" + to_text(hashed_id({"thole simulated gpu", pool, node, fmt::format("{}", gpu)}));
}

}  // namespace thole::model
