// thole.device.nvml: the NVIDIA GPUs of this machine, as NVML tells them. README.md beside this says from which calls.
//
// NVML is opened at the first question and shut again after each, so that a host holds none of its descriptors in
// between.
#include <dlfcn.h>
#include <nvml.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "answer.h"

namespace {

using device::failure;
using device::gpu;
using device::mig_profile;

constexpr uint64_t mib = uint64_t{1} << 20;

// The functions by name, as the header declares them.
struct nvml_calls {
  decltype(&nvmlInit_v2) init = nullptr;
  decltype(&nvmlShutdown) shutdown = nullptr;
  decltype(&nvmlErrorString) error_string = nullptr;
  decltype(&nvmlDeviceGetCount_v2) count = nullptr;
  decltype(&nvmlDeviceGetHandleByIndex_v2) handle = nullptr;
  decltype(&nvmlDeviceGetUUID) uuid = nullptr;
  decltype(&nvmlDeviceGetName) name = nullptr;
  decltype(&nvmlDeviceGetMemoryInfo_v2) memory = nullptr;
  decltype(&nvmlDeviceGetMigMode) mig_mode = nullptr;
  decltype(&nvmlDeviceGetGpuInstanceProfileInfoV) profile = nullptr;
  decltype(&nvmlDeviceGetGpuInstancePossiblePlacements_v2) places = nullptr;
};

template <class F>
void find(void *library, const char *symbol, F &to) {
  to = reinterpret_cast<F>(::dlsym(library, symbol));
  if (to == nullptr)
    throw failure{THOLE_UNAVAILABLE, "DriverFailed",
                  std::string("the driver's NVML has no ") + symbol + ": install a driver of release 525 or newer",
                  NVML_ERROR_FUNCTION_NOT_FOUND};
}

nvml_calls open_nvml() {
  // Never closed: NVML keeps threads and state of its own.
  void *library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char *words = ::dlerror();
    throw failure{THOLE_UNAVAILABLE, "NoDriver",
                  std::string("there is no NVIDIA driver: ") + (words == nullptr ? "no libnvidia-ml.so.1" : words),
                  NVML_ERROR_LIBRARY_NOT_FOUND};
  }
  nvml_calls nvml;
  find(library, "nvmlInit_v2", nvml.init);
  find(library, "nvmlShutdown", nvml.shutdown);
  find(library, "nvmlErrorString", nvml.error_string);
  find(library, "nvmlDeviceGetCount_v2", nvml.count);
  find(library, "nvmlDeviceGetHandleByIndex_v2", nvml.handle);
  find(library, "nvmlDeviceGetUUID", nvml.uuid);
  find(library, "nvmlDeviceGetName", nvml.name);
  find(library, "nvmlDeviceGetMemoryInfo_v2", nvml.memory);
  find(library, "nvmlDeviceGetMigMode", nvml.mig_mode);
  find(library, "nvmlDeviceGetGpuInstanceProfileInfoV", nvml.profile);
  find(library, "nvmlDeviceGetGpuInstancePossiblePlacements_v2", nvml.places);
  return nvml;
}

// NVML between init and shutdown.
class session {
 public:
  explicit session(const nvml_calls &nvml) : nvml_(nvml) {
    const nvmlReturn_t code = nvml_.init();
    if (code == NVML_ERROR_DRIVER_NOT_LOADED || code == NVML_ERROR_LIBRARY_NOT_FOUND)
      throw failure{THOLE_UNAVAILABLE, "NoDriver", "nvmlInit: " + words(code), code};
    check(code, "nvmlInit");
  }
  session(const session &) = delete;
  ~session() { nvml_.shutdown(); }

  unsigned count() const {
    unsigned n = 0;
    check(nvml_.count(&n), "nvmlDeviceGetCount");
    if (n > THOLE_MAX_GPUS)
      throw failure{THOLE_UNAVAILABLE, "DriverFailed",
                    "the driver counts " + std::to_string(n) + " GPUs; " + std::to_string(THOLE_MAX_GPUS) +
                        " are the most of a node"};
    return n;
  }
  gpu read(unsigned index) const;

 private:
  std::string words(nvmlReturn_t code) const {
    const char *text = nvml_.error_string(code);
    return std::string(text == nullptr ? "?" : text) + " (" + std::to_string(code) + ")";
  }
  void check(nvmlReturn_t code, const char *call) const {
    if (code != NVML_SUCCESS)
      throw failure{THOLE_UNAVAILABLE, "DriverFailed", std::string(call) + ": " + words(code), code};
  }
  bool in_mig_mode(nvmlDevice_t of) const;
  std::vector<mig_profile> profiles(nvmlDevice_t of, uint64_t memory_mib) const;
  std::vector<thole_mig_place> places(nvmlDevice_t of, unsigned profile) const;

  const nvml_calls &nvml_;
};

gpu session::read(unsigned index) const {
  nvmlDevice_t handle{};
  check(nvml_.handle(index, &handle), "nvmlDeviceGetHandleByIndex");
  gpu out;
  std::array<char, NVML_DEVICE_UUID_V2_BUFFER_SIZE> uuid{};
  check(nvml_.uuid(handle, uuid.data(), uuid.size()), "nvmlDeviceGetUUID");
  out.uuid.assign(uuid.data(), strnlen(uuid.data(), uuid.size()));
  std::array<char, NVML_DEVICE_NAME_V2_BUFFER_SIZE> name{};
  check(nvml_.name(handle, name.data(), name.size()), "nvmlDeviceGetName");
  out.model.assign(name.data(), strnlen(name.data(), name.size()));
  nvmlMemory_v2_t memory{};
  memory.version = nvmlMemory_v2;
  check(nvml_.memory(handle, &memory), "nvmlDeviceGetMemoryInfo");
  out.memory_mib = memory.total > memory.reserved ? (memory.total - memory.reserved) / mib : 0;
  if (in_mig_mode(handle)) out.flags |= THOLE_GPU_MIG;
  out.mig = profiles(handle, out.memory_mib);
  return out;
}

bool session::in_mig_mode(nvmlDevice_t of) const {
  unsigned current = 0, pending = 0;
  const nvmlReturn_t code = nvml_.mig_mode(of, &current, &pending);
  if (code == NVML_ERROR_NOT_SUPPORTED) return false;
  check(code, "nvmlDeviceGetMigMode");
  return current == NVML_DEVICE_MIG_ENABLE;
}

std::vector<thole_mig_place> session::places(nvmlDevice_t of, unsigned profile) const {
  unsigned count = 0;
  const nvmlReturn_t asked = nvml_.places(of, profile, nullptr, &count);
  if (asked != NVML_ERROR_INSUFFICIENT_SIZE) check(asked, "nvmlDeviceGetGpuInstancePossiblePlacements");
  std::vector<nvmlGpuInstancePlacement_t> found(count);
  if (count != 0) check(nvml_.places(of, profile, found.data(), &count), "nvmlDeviceGetGpuInstancePossiblePlacements");
  found.resize(std::min<std::size_t>(count, found.size()));
  std::vector<thole_mig_place> out;
  for (const auto &p : found) out.push_back({p.start, p.size});
  return out;
}

// What the card offers; empty where it knows no MIG, or does not tell while MIG is off.
std::vector<mig_profile> session::profiles(nvmlDevice_t of, uint64_t memory_mib) const {
  struct found {
    mig_profile profile;
    unsigned multiprocessors;
  };
  std::vector<found> all;
  for (unsigned index = 0; index < NVML_GPU_INSTANCE_PROFILE_COUNT; ++index) {
    nvmlGpuInstanceProfileInfo_v2_t info{};
    info.version = nvmlGpuInstanceProfileInfo_v2;
    // The versions of this struct differ in layout; the call takes them all through one pointer.
    const nvmlReturn_t code = nvml_.profile(of, index, &info);
    if (code == NVML_ERROR_NOT_SUPPORTED || code == NVML_ERROR_INVALID_ARGUMENT) continue;
    check(code, "nvmlDeviceGetGpuInstanceProfileInfo");
    std::string name(info.name, strnlen(info.name, sizeof info.name));
    if (name.starts_with("MIG ")) name.erase(0, 4);
    const bool again = std::any_of(all.begin(), all.end(), [&](const found &f) { return f.profile.name == name; });
    if (name.empty() || again) continue;
    // The whole card's instance is told in other units of reserve than the card.
    const uint64_t memory = std::min<uint64_t>(info.memorySizeMB, memory_mib);
    all.push_back({{name, memory, info.instanceCount, 0, places(of, info.id)}, info.multiprocessorCount});
  }
  unsigned most = 1;
  for (const found &f : all) most = std::max(most, f.multiprocessors);
  std::vector<mig_profile> out;
  for (found &f : all) {
    f.profile.share_milli = f.multiprocessors * 1000 / most;
    out.push_back(std::move(f.profile));
  }
  return out;
}

void warn(const thole_host_log *log, const std::string &text) {
  if (log != nullptr && log->write != nullptr)
    log->write(log->self, THOLE_LOG_WARN, THOLE_STR("nvml"), thole_str{text.data(), text.size()});
}

// Each core's own: the log that it gave.
thole_code start(const thole_plugin_host *host, void **self, thole_status *status) {
  return device::contained(status, [&] {
    *self = new const thole_host_log *(host->log);
    return THOLE_OK;
  });
}

void stop(void *self) {
  delete static_cast<const thole_host_log **>(self);
}

thole_code list(void *self, thole_str text, thole_gpu_list *gpus, thole_buffer *room, thole_status *status) {
  return device::contained(status, [&] {
    const device::options given(text, {"context_mib"});
    const uint64_t context = given.number("context_mib", 0, 1 << 20, 0);
    const nvml_calls nvml = open_nvml();
    const session open(nvml);
    std::vector<gpu> found;
    std::optional<failure> first;
    const unsigned count = open.count();
    for (unsigned i = 0; i < count; ++i) {
      try {
        found.push_back(open.read(i));
        found.back().context_mib = std::min(context, found.back().memory_mib);
      } catch (const failure &f) {
        warn(*static_cast<const thole_host_log **>(self), "GPU " + std::to_string(i) + " is left out: " + f.message);
        if (!first) first = f;
      }
    }
    if (found.empty() && first) throw *first;
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
                                          start,
                                          stop,
                                          &table};
  return &plugin;
}
