// Small random clusters and requests, the same ones for the same seed everywhere.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "model/gang.h"
#include "model/node.h"

namespace scenes {

using namespace thole;
using model::device_kind;
using model::gang_request;
using model::node;

class dice {
 public:
  explicit dice(uint64_t seed) : s_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  uint64_t next() {
    uint64_t z = s_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
  }
  uint32_t upto(uint32_t most) { return static_cast<uint32_t>(next() % (most + 1)); }
  bool chance(uint32_t percent) { return next() % 100 < percent; }

 private:
  uint64_t s_;
};

inline constexpr std::array<const char *, 3> level_names = {"zone", "block", "rack"};

inline std::vector<model::mig_profile> profiles() {
  return {{"1g", 10, 7, 142, {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}}},
          {"2g", 20, 3, 285, {{0, 2}, {2, 2}, {4, 2}}},
          {"3g", 40, 2, 428, {{0, 4}, {4, 4}}}};
}

struct scene {
  int levels = 0;
  std::vector<node> nodes;
  gang_request request;
};

inline std::vector<node> random_nodes(dice &d, int levels) {
  std::vector<node> out(1 + d.upto(4));
  for (std::size_t i = 0; i < out.size(); ++i) {
    node &n = out[i];
    n.name = "n" + std::to_string(i);
    for (int l = 0; l < levels; ++l) n.domains.push_back("d" + std::to_string(d.upto(1)));
    n.cpu_milli = 1000 * (2 + d.upto(6));
    n.memory_mib = 1000 * (2 + d.upto(6));
    n.flags = d.chance(7) ? THOLE_NODE_CORDONED : 0;
    const bool mig = d.chance(35);
    const uint32_t gpus = d.upto(d.chance(40) ? 4 : 2);
    for (uint32_t g = 0; g < gpus; ++g) {
      model::device dev;
      dev.uuid = "SIM-" + std::to_string(i) + "-" + std::to_string(g);
      dev.model = d.chance(75) ? "A" : "B";
      dev.memory_mib = 70 + 10 * d.upto(2);
      dev.context_mib = d.chance(50) ? 5 : 0;
      dev.flags = d.chance(5) ? THOLE_GPU_UNHEALTHY : 0;
      dev.max_vgpus = d.chance(30) ? 1 + d.upto(2) : 0;
      if (mig && d.chance(85)) dev.flags |= THOLE_GPU_MIG;
      if ((dev.flags & THOLE_GPU_MIG) != 0 || d.chance(20)) dev.mig = profiles();
      n.devices.push_back(dev);
    }
  }
  return out;
}

inline std::vector<model::nearness> random_topology(dice &d, int levels, uint32_t percent) {
  std::vector<model::nearness> out;
  for (int l = 0; l <= levels; ++l)
    if (d.chance(percent))
      out.push_back({l == levels ? "node" : level_names[static_cast<std::size_t>(l)], d.chance(55)});
  return out;
}

inline gang_request random_request(dice &d, int levels, uint64_t id, bool small) {
  static constexpr std::array<const char *, 3> names = {"a", "b", "c"};
  gang_request out;
  out.gang = {7, id};
  const uint32_t roles = small || d.chance(50) ? 1 : 2 + d.upto(1);
  uint32_t left = small ? 2 : 8;
  for (uint32_t r = 0; r < roles; ++r) {
    model::role role;
    role.name = names[r];
    role.members = 1 + d.upto(std::min(left - (roles - r), roles == 1 ? 7u : 3u));
    left -= role.members;
    if (d.chance(35)) role.min_members = 1 + d.upto(role.members - 1);
    role.kind = static_cast<device_kind>(std::min(3u, d.upto(9) / 2 == 0 ? 0 : 1 + d.upto(2)));
    if (role.kind != device_kind::none) role.devices = d.chance(70) ? 1 : 2;
    if (role.kind == device_kind::vgpu) {
      role.vgpu_memory_mib = 5 * (1 + d.upto(7));
      if (d.chance(60)) role.share_milli = 100 * (3 + d.upto(6));
    }
    static constexpr std::array<const char *, 3> mig = {"1g", "2g", "3g"};
    if (role.kind == device_kind::mig) role.mig_profile = mig[d.upto(2)];
    if (role.kind != device_kind::none && d.chance(22)) role.gpu_model = d.chance(70) ? "A" : "B";
    if (d.chance(45)) role.cpu_milli = 1000 * d.upto(4);
    if (d.chance(45)) role.memory_mib = 1000 * d.upto(4);
    if (!small) role.topology = random_topology(d, levels, 34);
    out.roles.push_back(role);
  }
  if (!small) out.topology = random_topology(d, levels, 22);
  return out;
}

}  // namespace scenes
