// model/pool.h: the NodePool: its description, and whether its vGPUs fit its GPUs.
#pragma once

#include "base/status.h"
#include "model/schema.h"

namespace thole::model {

extern const field pool_description;

void complete_pool(json &pool, const yaml::node &root, const reading &in);

// The seed's form (apiVersion: v1) in today's, with a remark that shows it.
yaml::node convert_seed_pool(yaml::node root, yaml::problems &found);

// Whether `count` vGPUs of `vgpu_mib`, each with its context, fit a GPU; else a sentence with what would fit.
struct fit {
  bool fits = true;
  std::string sentence;
};
fit vgpus_fit(std::string_view gpu, int64_t gpu_mib, int64_t count, int64_t vgpu_mib, int64_t context_mib);

// The name of node `i` of a group of `count`, and the made-up UUID of a simulated GPU.
std::string node_name(std::string_view group, int64_t i, int64_t count);
std::string simulated_uuid(std::string_view pool, std::string_view node, int64_t gpu);

}  // namespace thole::model
