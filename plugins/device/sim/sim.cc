// thole.device.sim: GPUs that are not there, for pools that ask for them. Every one of them says so: in its flag, and
// in its UUID, which is made out of the node's name and the GPU's number and so is the same each time.
//
// Options: {"gpus": 1..32 (1), "memory_mib": ... (98304), "context_mib": ... (512), "model": "..." ("Simulated GPU"),
//           "node": "..." ("local"), "mig": true | false (false)}
#include <cstdio>

#include "answer.h"

namespace {

using device::gpu;
using device::mig_profile;

constexpr uint64_t most_mib = uint64_t{1} << 30;

// FNV-1a of the text, then the number, mixed (splitmix64) so that neighbours differ in every digit.
uint64_t digest(std::string_view text, uint64_t number) noexcept {
  uint64_t h = 0xCBF29CE484222325u;
  for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  h += number * 0x9E3779B97F4A7C15u;
  h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9u;
  h = (h ^ h >> 27) * 0x94D049BB133111EBu;
  return h ^ h >> 31;
}

std::string made_up_uuid(std::string_view node, uint64_t index) {
  const uint64_t hi = digest(node, 2 * index);
  const uint64_t lo = digest(node, 2 * index + 1);
  char text[48];
  // Version 8: "made in some way of its own".
  std::snprintf(text, sizeof text, "SIM-%08x-%04x-8%03x-%04x-%012llx", static_cast<unsigned>(hi >> 32),
                static_cast<unsigned>(hi >> 16 & 0xFFFF), static_cast<unsigned>(hi & 0xFFF),
                static_cast<unsigned>(0x8000 | (lo >> 48 & 0x3FFF)),
                static_cast<unsigned long long>(lo & 0xFFFFFFFFFFFF));
  return text;
}

// The geometry of the cards with eight memory slices and seven of compute, whose places do not depend on the card.
std::vector<mig_profile> profiles_of(uint64_t memory_mib) {
  struct shape {
    uint32_t compute, memory;
    std::vector<uint32_t> starts;
  };
  const shape shapes[] = {
      {1, 1, {0, 1, 2, 3, 4, 5, 6}}, {2, 2, {0, 2, 4}}, {3, 4, {0, 4}}, {4, 4, {0}}, {7, 8, {0}},
  };
  std::vector<mig_profile> out;
  for (const shape &s : shapes) {
    const uint64_t mib = memory_mib * s.memory / 8;
    mig_profile p;
    p.name = std::to_string(s.compute) + "g." + std::to_string((mib + 512) / 1024) + "gb";
    p.memory_mib = mib;
    p.count = static_cast<uint32_t>(s.starts.size());
    p.share_milli = s.compute * 1000 / 7;
    for (uint32_t start : s.starts) p.places.push_back({start, s.memory});
    out.push_back(std::move(p));
  }
  return out;
}

thole_code list(void *, thole_str text, thole_gpu_list *gpus, thole_buffer *room, thole_status *status) {
  return device::contained(status, [&] {
    const device::options given(text, {"gpus", "memory_mib", "context_mib", "model", "node", "mig"});
    const uint64_t count = given.number("gpus", 1, THOLE_MAX_GPUS, 1);
    const std::string node = given.text("node", "local");
    gpu one;
    one.model = given.text("model", "Simulated GPU");
    one.memory_mib = given.number("memory_mib", 1, most_mib, 98304);
    one.context_mib = given.number("context_mib", 0, one.memory_mib, std::min<uint64_t>(512, one.memory_mib));
    one.flags = THOLE_GPU_SIMULATED;
    if (given.flag("mig")) {
      one.flags |= THOLE_GPU_MIG;
      one.mig = profiles_of(one.memory_mib);
    }
    std::vector<gpu> found(count, one);
    for (uint64_t i = 0; i < count; ++i) found[i].uuid = made_up_uuid(node, i);
    return device::answer(found, gpus, room, status);
  });
}

constexpr thole_device_plugin table = {sizeof(thole_device_plugin), list};

}  // namespace

extern "C" const thole_plugin *thole_plugin_entry_v1(uint32_t, uint32_t, thole_status *) {
  static constexpr thole_plugin plugin = {sizeof(thole_plugin),
                                          THOLE_ABI_MAJOR,
                                          THOLE_ABI_MINOR,
                                          THOLE_STR_INIT(THOLE_PLUGIN_ID),
                                          THOLE_STR_INIT(THOLE_PLUGIN_VERSION),
                                          nullptr,
                                          nullptr,
                                          &table};
  return &plugin;
}
