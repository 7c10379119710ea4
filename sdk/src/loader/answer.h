// loader/answer.h: what a plugin says, checked before anybody believes it.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

#include <thole/draft/device.h>

namespace thole::loader {

struct mig_profile {
  std::string name;
  uint64_t memory_mib = 0;
  uint32_t count = 0;
  uint32_t share_milli = 0;
  std::vector<thole_mig_place> placements;
};

struct gpu {
  std::string uuid;
  std::string model;
  uint64_t memory_mib = 0;
  uint64_t context_mib = 0;
  uint32_t flags = 0;
  uint32_t max_vgpus = 0;
  std::vector<mig_profile> mig;
};

// Copies a list out of `room`, which the plugin has filled. Not one byte outside of it is read.
// Fails: PluginBadAnswer, with what is wrong.
result<std::vector<gpu>> read_gpus(const thole_gpu_list &list, const thole_buffer &room, const std::string &id);

// What a plugin that did not succeed has said: its own reason, if that is one of reasons.h and goes with its code.
error plugin_error(thole_code code, const thole_status &status, const std::string &id) noexcept;

}  // namespace thole::loader
