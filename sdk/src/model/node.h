// model/node.h: a machine as its platform describes it, and the same machine with what is held on it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/device.h"

namespace thole::model {

struct node {
  std::string name;
  std::vector<std::string> domains;  // outermost level first
  uint64_t cpu_milli = 0;
  uint64_t memory_mib = 0;
  uint32_t flags = 0;
  std::vector<device> devices;
  std::vector<std::string> labels = {};
  friend bool operator==(const node &, const node &) = default;
};

constexpr uint64_t most_cpu_milli = uint64_t{1} << 40;

// Whether the description can be used at all, with `levels` levels of topology (NodeBad, OverBound).
result<> check(const node &n, std::size_t levels);

// What one member wants of its node.
struct member_want {
  device_want device;
  uint32_t devices = 0;
  int64_t cpu_milli = 0;
  int64_t memory_mib = 0;
  uint32_t label = 0;  // only on nodes that have it; 0: any
  friend auto operator<=>(const member_want &, const member_want &) = default;
};

// Whether a member's devices must lie on different GPUs: a process sees a GPU once, so two vGPUs of one are one to it.
inline bool apart(const member_want &w) noexcept {
  return w.device.kind == device_kind::vgpu && w.devices > 1;
}

// A node with what is held on it.
struct machine {
  uint32_t name = 0;
  uint32_t flags = 0;
  int64_t cpu_milli = 0;  // all of it
  int64_t memory_mib = 0;
  int64_t used_cpu = 0;
  int64_t used_memory = 0;
  std::vector<gpu> gpus;
  std::vector<uint32_t> labels;  // sorted

  bool has(uint32_t label) const noexcept;  // 0 is had by all
  bool open() const noexcept { return (flags & THOLE_NODE_CORDONED) == 0; }
  void empty() noexcept;  // nothing is held there any more
};

// How many more members of a kind the node takes. Exact: each that is placed by place() takes away exactly one.
uint32_t fits(const machine &m, const member_want &w) noexcept;

// How many it would take if it were open and healthy and nothing were held on it.
uint32_t capacity(const machine &m, const member_want &w) noexcept;

// Best-fit devices for one more member, appended to `out`; the machine is changed. fits() was not 0. If it throws,
// nothing is held but what stands in `out`.
void place(machine &m, const member_want &w, std::vector<grant> &out);

}  // namespace thole::model
