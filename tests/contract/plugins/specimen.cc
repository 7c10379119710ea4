// A device plugin that can be wrong in every way that a test asks for: what is wrong with the library itself is chosen
// when it is compiled (SPECIMEN_*), what it does when it is asked is chosen by the options.
//
// Its constructor adds a line to the file that THOLE_SPECIMEN_MARK names: the proof that a line of it has run.
#include <fcntl.h>
#include <thole/draft/device.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>

#ifndef SPECIMEN_WORD
#define SPECIMEN_WORD "right"
#endif
#ifndef SPECIMEN_ENTRY
#define SPECIMEN_ENTRY thole_plugin_entry_v1
#endif

namespace {

[[gnu::constructor]] void leave_a_mark() {
  const char *path = std::getenv("THOLE_SPECIMEN_MARK");
  if (path == nullptr) return;
  const int fd = ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return;
  constexpr std::string_view line = SPECIMEN_WORD "\n";
  if (::write(fd, line.data(), line.size()) < 0) std::abort();
  ::close(fd);
}

// Lays out one GPU, then breaks what `how` says.
thole_code one_gpu(std::string_view how, thole_gpu_list *gpus, thole_buffer *room) {
  struct answer {
    thole_gpu gpu[2];
    thole_mig_profile profile;
    thole_mig_place place;
    char uuid[16], model[16];
  };
  if (room->size < sizeof(answer)) {
    room->used = sizeof(answer);
    return THOLE_TOO_SMALL;
  }
  auto *a = static_cast<answer *>(room->data);
  *a = answer{};
  std::memcpy(a->uuid, "SIM-1", 5);
  std::memcpy(a->model, SPECIMEN_WORD, sizeof(SPECIMEN_WORD) - 1);
  a->place = {0, 1};
  a->profile = {sizeof(thole_mig_profile), {a->model, 4}, 512, 1, 142, {&a->place, 1, sizeof(thole_mig_place)}};
  a->gpu[0] = {sizeof(thole_gpu),
               {a->uuid, 5},
               {a->model, sizeof(SPECIMEN_WORD) - 1},
               1024,
               16,
               THOLE_GPU_SIMULATED,
               0,
               {&a->profile, 1, sizeof(thole_mig_profile)}};
  a->gpu[1] = a->gpu[0];
  room->used = sizeof(answer);
  gpus->gpus = {a->gpu, 1, sizeof(thole_gpu)};
  static thole_gpu elsewhere;
  if (how == "twice") gpus->gpus.count = 2;
  if (how == "many") gpus->gpus.count = 1 << 20;
  if (how == "overflow") gpus->gpus = {a->gpu, 2, UINT64_MAX / 2};
  if (how == "stride") gpus->gpus.stride = 12;
  if (how == "outside") gpus->gpus.data = &elsewhere;
  if (how == "null") gpus->gpus.data = nullptr;
  if (how == "unsized") a->gpu[0].struct_size = 0;
  if (how == "oversized") a->gpu[0].struct_size = sizeof(thole_gpu) + 8;
  if (how == "text outside") a->gpu[0].model = THOLE_STR("right");
  if (how == "text overflow") a->gpu[0].model.len = UINT64_MAX;
  if (how == "latin1") a->model[0] = '\xE9';
  if (how == "control") a->model[0] = '\x1B';
  if (how == "nameless") a->gpu[0].uuid.len = 0;
  if (how == "pretends") a->gpu[0].flags = 0;
  if (how == "flags") a->gpu[0].flags |= 1u << 30;
  if (how == "context") a->gpu[0].context_mib = 4096;
  if (how == "huge") a->gpu[0].memory_mib = UINT64_MAX;
  if (how == "profile") a->profile.memory_mib = 4096;
  if (how == "profiles outside") a->gpu[0].mig.data = &elsewhere;
  if (how == "share") a->profile.share_milli = 1001;
  if (how == "place") a->place = {0, 0};
  return THOLE_OK;
}

thole_code refuse(thole_status *status, thole_code code, const char *reason) {
  std::strncpy(status->reason, reason, sizeof status->reason - 1);
  std::strncpy(status->message, "the specimen was asked to", sizeof status->message - 1);
  status->device_code = 7;
  return code;
}

thole_code list(void *, thole_str options, thole_gpu_list *gpus, thole_buffer *room, thole_status *status) {
  const std::string_view how(options.data, options.len);
  if (how == "throw") throw std::runtime_error("a specimen's exception");
  if (how == "throw 7") throw 7;
  if (how == "crash") *static_cast<volatile int *>(nullptr) = 7;
  if (how == "greedy") return room->used = uint64_t{1} << 40, THOLE_TOO_SMALL;
  if (how == "never enough") return room->used = room->size, THOLE_TOO_SMALL;
  if (how == "unknown code") return 12345;
  if (how == "wrong reason") return refuse(status, THOLE_UNAVAILABLE, "PluginOptionsBad");
  if (how == "own reason") return refuse(status, THOLE_UNAVAILABLE, "NoDriver");
  if (how == "no reason") return THOLE_UNAVAILABLE;
  return one_gpu(how, gpus, room);
}

thole_code start(const thole_plugin_host *host, void **, thole_status *status) {
  if (host->log != nullptr && host->log->write != nullptr)
    host->log->write(host->log->self, THOLE_LOG_WARN, THOLE_STR("specimen"), THOLE_STR("starts"));
#ifdef SPECIMEN_THROWS_IN_START
  throw std::runtime_error("in start");
#endif
#ifdef SPECIMEN_FAILS_IN_START
  return refuse(status, THOLE_UNAVAILABLE, "NoDriver");
#endif
  (void)status;
  (void)refuse;
  return THOLE_OK;
}

void stop(void *) {
#ifdef SPECIMEN_HANGS_IN_STOP
  for (;;) ::pause();
#endif
#ifdef SPECIMEN_THROWS_IN_STOP
  throw std::runtime_error("in stop");
#endif
}

#ifdef SPECIMEN_STATIC_TLS
[[gnu::tls_model("initial-exec")]] thread_local int counted = 0;
#endif

constexpr thole_device_plugin table = {sizeof(thole_device_plugin), list};

}  // namespace

#ifdef SPECIMEN_EXTRA
extern "C" THOLE_EXPORT int specimen_extra() {
  return 7;
}
#endif
#ifdef SPECIMEN_UNIQUE
template <class T>
struct THOLE_EXPORT holder {
  static int value;
};
template <class T>
int holder<T>::value = 7;
template struct holder<int>;
#endif

extern "C" THOLE_EXPORT const thole_plugin *SPECIMEN_ENTRY(uint32_t, uint32_t, [[maybe_unused]] thole_status *status) {
#ifdef SPECIMEN_STATIC_TLS
  ++counted;
#endif
#ifdef SPECIMEN_ANSWERS_NULL
  refuse(status, THOLE_UNSUPPORTED, "PluginRefusedItself");
  return nullptr;
#endif
#ifdef SPECIMEN_THROWS_IN_ENTRY
  throw std::runtime_error("in the entry");
#endif
  static constexpr thole_plugin plugin = {sizeof(thole_plugin),
                                          THOLE_ABI_MAJOR,
                                          THOLE_ABI_MINOR,
#ifdef SPECIMEN_OTHER_ID
                                          THOLE_STR_INIT("org.example.other"),
#else
                                          THOLE_STR_INIT("org.example.specimen"),
#endif
                                          THOLE_STR_INIT("1.0.0"),
                                          start,
                                          stop,
#ifdef SPECIMEN_NO_DEVICE
                                          nullptr};
  (void)table;
#else
                                          &table};
#endif
  return &plugin;
}
