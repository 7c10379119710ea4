// model/device.h: what a GPU is, and how whole use, vGPUs and MIG instances fit on it. Pure values, integers only.
#pragma once

#include <thole/gang.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace thole::model {

enum class device_kind : int32_t {
  none = THOLE_KIND_NONE,
  whole = THOLE_KIND_WHOLE,
  vgpu = THOLE_KIND_VGPU,
  mig = THOLE_KIND_MIG
};

struct mig_placement {
  uint32_t start = 0;  // first memory slice
  uint32_t size = 0;
  friend auto operator<=>(const mig_placement &, const mig_placement &) = default;
};

struct mig_profile {
  std::string name;
  uint64_t memory_mib = 0;
  uint32_t count = 0;
  uint32_t share_milli = 0;
  std::vector<mig_placement> placements;
  friend bool operator==(const mig_profile &, const mig_profile &) = default;
};

// A GPU as its driver describes it.
struct device {
  std::string uuid;
  std::string model;
  uint64_t memory_mib = 0;
  uint64_t context_mib = 0;
  uint32_t flags = 0;
  uint32_t max_vgpus = 0;
  std::vector<mig_profile> mig;
  friend bool operator==(const device &, const device &) = default;
};

constexpr uint32_t whole_share = 1000;               // thousandths of a GPU's compute
constexpr uint32_t default_max_vgpus = 16;           // what max_vgpus 0 means
constexpr uint32_t most_vgpus = 4096;                // of one GPU
constexpr uint32_t most_slices = 64;                 // memory slices of a GPU: a mask of 64 bits
constexpr uint32_t most_profiles = 64;               // of one GPU
constexpr uint64_t most_grants = uint64_t{1} << 24;  // of a gang: 65,536 nodes of 32 GPUs in 8 parts each
constexpr uint64_t most_mib = uint64_t{1} << 40;     // any size; sums of 2^20 of them stay below 2^63

// Whether the description can be used at all (NodeBad, OverBound).
result<> check(const device &d);

// What a member wants of one GPU. Names are dense ids that the ledger has given out; 0 is no name.
struct device_want {
  device_kind kind = device_kind::none;
  uint32_t model = 0;    // only on this model; 0: any
  uint32_t profile = 0;  // of a MIG instance
  uint32_t share_milli = 0;
  int64_t memory_mib = 0;  // of a vGPU
  friend auto operator<=>(const device_want &, const device_want &) = default;
};

// What is held of one GPU.
struct grant {
  uint32_t device = 0;  // index in its node
  device_kind kind = device_kind::none;
  uint32_t share_milli = 0;
  uint32_t profile = 0;
  mig_placement mig;
  int64_t memory_mib = 0;   // what the holder may use
  int64_t charged_mib = 0;  // what the GPU has less of: for a vGPU its context too
  friend bool operator==(const grant &, const grant &) = default;
};

struct profile_shape {
  uint32_t name = 0;
  uint32_t count = 0;
  uint32_t share_milli = 0;
  int64_t memory_mib = 0;
  std::vector<mig_placement> placements;  // in the device's order
  std::vector<uint32_t> by_end;           // their indices, by (end, start)
};

// A GPU with what is held on it.
struct gpu {
  uint32_t model = 0;
  uint32_t flags = 0;
  uint32_t max_vgpus = default_max_vgpus;
  int64_t memory_mib = 0;
  int64_t context_mib = 0;
  std::vector<profile_shape> profiles;

  uint32_t wholes = 0;
  uint32_t vgpus = 0;
  int64_t used_mib = 0;
  int64_t used_share = 0;
  std::vector<std::pair<uint32_t, mig_placement>> instances;  // profile's name and place

  bool healthy() const noexcept { return (flags & THOLE_GPU_UNHEALTHY) == 0; }
  bool in_mig_mode() const noexcept { return (flags & THOLE_GPU_MIG) != 0; }
  uint32_t holders() const noexcept { return wholes + vgpus + static_cast<uint32_t>(instances.size()); }
  uint64_t slices() const noexcept;  // mask of those that instances lie on
  uint32_t instances_of(uint32_t profile) const noexcept;
  const profile_shape *profile(uint32_t name) const noexcept;
  // Whether more is held than there is: after adoption, or after it has become smaller.
  bool overcommitted() const noexcept;
  // What one more vGPU could have, its context already taken off; -1: it takes no vGPU at all.
  int64_t hole_mib() const noexcept;
};

inline uint64_t mask_of(mig_placement p) noexcept {
  const uint64_t ones = p.size >= 64 ? ~uint64_t{0} : (uint64_t{1} << p.size) - 1;
  return ones << p.start;
}

// How many more of `w` the GPU takes. Exact: each one that is placed by choose() takes away exactly one.
uint32_t slots(const gpu &g, const device_want &w) noexcept;

// How many of `w` it would take if it were healthy and nothing were held on it.
uint32_t capacity(const gpu &g, const device_want &w) noexcept;

// The grant that `w` becomes on the GPU, at a place that was chosen.
grant grant_of(const gpu &g, const device_want &w, uint32_t device, mig_placement at) noexcept;

// The place for one more: where the GPU has a choice (MIG), the one that costs `w` one slot only and leaves the most
// room to other profiles, ties by start. `device` is set by the caller.
std::optional<grant> choose(const gpu &g, const device_want &w);

// Whether exactly this grant can be added now.
bool takes(const gpu &g, const grant &wanted) noexcept;

// Sets what a grant's sizes follow from: the GPU as it is described now.
void charge(grant &what, const gpu &g) noexcept;

// If it throws, nothing is held.
void hold(gpu &g, const grant &what);
void give_back(gpu &g, const grant &what) noexcept;

// How many instances fit at most beside `occupied`, by the earliest end: an exact count for intervals.
uint32_t most_instances(const profile_shape &p, uint64_t occupied, uint32_t already) noexcept;

}  // namespace thole::model
