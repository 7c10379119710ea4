#include "loader/answer.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>

#include "base/text.h"

namespace thole::loader {
namespace {

constexpr uint64_t most_mib = uint64_t{1} << 40;  // a GPU of 2^60 bytes is a mistake
constexpr uint64_t most_profiles = 64;
constexpr uint64_t most_placements = 64;
constexpr uint32_t most_vgpus = 1024;
constexpr uint32_t known_flags = THOLE_GPU_SIMULATED | THOLE_GPU_UNHEALTHY | THOLE_GPU_MIG;

// The reader of one answer. Its functions return false after they have written down what is wrong.
class reading {
 public:
  reading(const thole_buffer &room, const std::string &id) : room_(room), id_(id) {}

  result<std::vector<gpu>> gpus(const thole_list &list) {
    THOLE_TRY(bounds(list, sizeof(uint64_t), THOLE_MAX_GPUS, 8, "GPUs"));
    std::vector<gpu> out;
    std::set<std::string> uuids;
    for (uint64_t i = 0; i < list.count; ++i) {
      THOLE_LET(gpu d, one_gpu(list, i));
      if (!uuids.insert(d.uuid).second) return bad("two GPUs have the UUID {}", d.uuid);
      out.push_back(std::move(d));
    }
    return out;
  }

 private:
  template <class... Args>
  tl::unexpected<error> bad(fmt::format_string<Args...> format, Args &&...args) const noexcept {
    const error detail = make_error(reason::PluginBadAnswer, format, fmt::make_format_args(args...));
    auto failed = fail(reason::PluginBadAnswer, "{} answers against the contract: {}; report it to its author", id_,
                       detail.text());
    failed.value().flags |= THOLE_STATUS_PLUGIN;
    return failed;
  }

  // Whether [data, data + size) lies in the room that was lent.
  bool inside(const void *data, uint64_t size) const noexcept {
    const auto begin = reinterpret_cast<uintptr_t>(room_.data);
    const auto at = reinterpret_cast<uintptr_t>(data);
    return at >= begin && at - begin <= room_.size && size <= room_.size - (at - begin);
  }

  result<> bounds(const thole_list &list, uint64_t least, uint64_t most, uint64_t align, std::string_view what) const {
    if (list.count == 0) return {};
    if (list.count > most) return bad("{} {}, of which there can be {}", list.count, what, most);
    if (list.stride < least || list.stride % align != 0 || list.stride > 65536)
      return bad("a list of {} with stride {}", what, list.stride);
    if (reinterpret_cast<uintptr_t>(list.data) % align != 0 || !inside(list.data, list.count * list.stride))
      return bad("a list of {} outside of the room that was lent", what);
    return {};
  }

  // Element i of a list of sized structs, as far as the plugin's version of it goes.
  template <class T>
  result<T> element(const thole_list &list, uint64_t i, std::string_view what) const {
    const char *from = static_cast<const char *>(list.data) + i * list.stride;
    uint64_t size = 0;
    std::memcpy(&size, from, sizeof size);
    if (size < sizeof size || size > list.stride) return bad("{} {} has struct_size {}", what, i, size);
    T out{};
    std::memcpy(static_cast<void *>(&out), from, std::min<uint64_t>(size, sizeof(T)));
    return out;
  }

  result<std::string> text(const thole_str &s, uint64_t most, std::string_view what) const {
    if (s.len == 0 || s.len > most) return bad("{} of {} bytes", what, s.len);
    if (!inside(s.data, s.len)) return bad("{} outside of the room that was lent", what);
    const std::string_view given(s.data, s.len);
    const bool plain = std::none_of(given.begin(), given.end(),
                                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
    if (!is_utf8(given) || !plain) return bad("{} that is not plain UTF-8", what);
    return std::string(given);
  }

  result<gpu> one_gpu(const thole_list &list, uint64_t i) const {
    THOLE_LET(const thole_gpu given, element<thole_gpu>(list, i, "GPU"));
    gpu out;
    THOLE_LET(out.uuid, text(given.uuid, 96, "a UUID"));
    THOLE_LET(out.model, text(given.model, THOLE_MAX_NAME, "a model's name"));
    out.memory_mib = given.memory_mib;
    out.context_mib = given.context_mib;
    out.flags = given.flags;
    out.max_vgpus = given.max_vgpus;
    // What is simulated says so in its name too, wherever only the name is shown.
    if (((out.flags & THOLE_GPU_SIMULATED) != 0) != out.uuid.starts_with("SIM-"))
      return bad("the UUID {} with flags {:#x}", out.uuid, out.flags);
    if ((out.flags & ~known_flags) != 0) return bad("{} has unknown flags {:#x}", out.uuid, out.flags);
    if (out.memory_mib > most_mib || out.context_mib > out.memory_mib)
      return bad("{} has {} MiB and contexts of {} MiB", out.uuid, out.memory_mib, out.context_mib);
    if (out.max_vgpus > most_vgpus) return bad("{} takes {} vGPUs", out.uuid, out.max_vgpus);
    THOLE_TRY(bounds(given.mig, sizeof(uint64_t), most_profiles, 8, "MIG profiles"));
    std::set<std::string> names;
    for (uint64_t k = 0; k < given.mig.count; ++k) {
      THOLE_LET(mig_profile profile, one_profile(given.mig, k, out));
      if (!names.insert(profile.name).second) return bad("{} has two profiles {}", out.uuid, profile.name);
      out.mig.push_back(std::move(profile));
    }
    return out;
  }

  result<mig_profile> one_profile(const thole_list &list, uint64_t i, const gpu &of) const {
    THOLE_LET(const thole_mig_profile given, element<thole_mig_profile>(list, i, "MIG profile"));
    mig_profile out;
    THOLE_LET(out.name, text(given.name, 64, "a profile's name"));
    out.memory_mib = given.memory_mib;
    out.count = given.count;
    out.share_milli = given.share_milli;
    if (out.memory_mib > of.memory_mib || out.share_milli > 1000)
      return bad("profile {} of {} has {} MiB and {}/1000 of it", out.name, of.uuid, out.memory_mib, out.share_milli);
    THOLE_TRY(bounds(given.placements, sizeof(thole_mig_place), most_placements, 4, "placements"));
    for (uint64_t k = 0; k < given.placements.count; ++k) {
      const auto place = *THOLE_AT(given.placements, thole_mig_place, k);
      if (place.size == 0 || place.size > 64 || place.start > 64)
        return bad("profile {} may lie at {}, {} slices long", out.name, place.start, place.size);
      out.placements.push_back(place);
    }
    return out;
  }

  const thole_buffer &room_;
  const std::string &id_;
};

constexpr reason all_reasons[] = {
#define X(name, code, meaning, remedy) reason::name,
    THOLE_REASONS(X)
#undef X
};

// A plugin may say no more than a code; then this is the reason.
reason usual_reason(thole_code code) noexcept {
  switch (code) {
    case THOLE_INVALID:
      return reason::PluginOptionsBad;
    case THOLE_UNAVAILABLE:
      return reason::DriverFailed;
    case THOLE_EXHAUSTED:
      return reason::OutOfMemory;
    default:
      return reason::PluginBadAnswer;
  }
}

}  // namespace

result<std::vector<gpu>> read_gpus(const thole_gpu_list &list, const thole_buffer &room, const std::string &id) {
  return reading(room, id).gpus(list.gpus);
}

error plugin_error(thole_code code, const thole_status &status, const std::string &id) noexcept {
  const std::string_view name(status.reason, strnlen(status.reason, sizeof status.reason));
  std::string_view words(status.message, strnlen(status.message, sizeof status.message));
  if (!is_utf8(words)) words = "(words that are not UTF-8)";
  if (words.empty()) words = "it gives no reason";
  const auto known = std::find_if(std::begin(all_reasons), std::end(all_reasons),
                                  [&](reason r) { return name_of(r) == name && code_of(r) == code; });
  error e;
  if (known != std::end(all_reasons)) e = fail(*known, "{}: {}", id, words).value();
  else if (name.empty()) e = fail(usual_reason(code), "{} answers code {}: {}", id, code, words).value();
  else
    e = fail(reason::PluginBadAnswer, "{} answers code {} with a reason that does not belong to it: {}", id, code,
             words)
            .value();
  e.flags |= THOLE_STATUS_PLUGIN | (status.flags & THOLE_STATUS_RETRY);
  e.os_errno = status.os_errno;
  e.device_code = status.device_code;
  return e;
}

}  // namespace thole::loader
