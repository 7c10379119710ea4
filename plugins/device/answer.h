// plugins/device/answer.h: how a device plugin answers: its GPUs laid out in the room that it was lent, or a reason.
#pragma once

#include <thole/draft/device.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace device {

struct mig_profile {
  std::string name;
  uint64_t memory_mib = 0;
  uint32_t count = 0;
  uint32_t share_milli = 0;
  std::vector<thole_mig_place> places;
};

struct gpu {
  std::string uuid;
  std::string model;
  uint64_t memory_mib = 0;
  uint64_t context_mib = 0;
  uint32_t flags = 0;
  std::vector<mig_profile> mig;
};

// Why a plugin cannot answer: thrown inside of a plugin, and never out of it.
struct failure {
  thole_code code;
  const char *reason;
  std::string message;
  int32_t device_code = 0;
};

// Cuts the text so that it ends, and at a character's end.
inline void copy_text(char *to, std::size_t size, std::string_view text) noexcept {
  std::size_t n = std::min(size - 1, text.size());
  while (n < text.size() && n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80) --n;
  std::memcpy(to, text.data(), n);
  to[n] = '\0';
}

inline thole_code refuse(const failure &f, thole_status *status) noexcept {
  if (status == nullptr || status->struct_size < sizeof(thole_status)) return f.code;
  status->code = f.code;
  status->device_code = f.device_code;
  copy_text(status->reason, sizeof status->reason, f.reason);
  copy_text(status->message, sizeof status->message, f.message);
  return f.code;
}

// Takes pieces off the room, counting on when it is full: then the count says how much would have been needed.
class layout {
 public:
  explicit layout(thole_buffer &room) noexcept : room_(room) {}

  // Aligned to 8 bytes; null once the room is full.
  void *take(std::size_t size) noexcept {
    const uint64_t at = used_;
    used_ += (size + 7) & ~std::size_t{7};
    return used_ <= room_.size ? static_cast<std::byte *>(room_.data) + at : nullptr;
  }
  thole_str text(std::string_view s) noexcept {
    void *to = take(s.size());
    if (to != nullptr) std::memcpy(to, s.data(), s.size());
    return {static_cast<const char *>(to), s.size()};
  }
  template <class T>
  thole_list list(const std::vector<T> &elements) noexcept {
    void *to = take(elements.size() * sizeof(T));
    if (to != nullptr && !elements.empty()) std::memcpy(to, elements.data(), elements.size() * sizeof(T));
    return elements.empty() ? thole_list{nullptr, 0, 0} : thole_list{to, elements.size(), sizeof(T)};
  }
  bool finish() noexcept {
    room_.used = used_;
    return used_ <= room_.size;
  }

 private:
  thole_buffer &room_;
  uint64_t used_ = 0;
};

inline thole_code answer(const std::vector<gpu> &found, thole_gpu_list *gpus, thole_buffer *room,
                         thole_status *status) {
  layout out(*room);
  std::vector<thole_gpu> laid;
  for (const gpu &g : found) {
    std::vector<thole_mig_profile> profiles;
    for (const mig_profile &p : g.mig)
      profiles.push_back(
          {sizeof(thole_mig_profile), out.text(p.name), p.memory_mib, p.count, p.share_milli, out.list(p.places)});
    laid.push_back({sizeof(thole_gpu), out.text(g.uuid), out.text(g.model), g.memory_mib, g.context_mib, g.flags, 0,
                    out.list(profiles)});
  }
  const thole_list list = out.list(laid);
  if (!out.finish())
    return refuse({THOLE_TOO_SMALL, "BufferTooSmall", std::to_string(room->used) + " bytes are needed"}, status);
  gpus->gpus = list;
  return THOLE_OK;
}

// Options: one JSON object with known keys only.
class options {
 public:
  options(thole_str text, std::initializer_list<std::string_view> known) {
    const std::string_view json(text.data, text.len);
    object_ = nlohmann::json::parse(json.empty() ? "{}" : json, nullptr, false);
    if (!object_.is_object()) throw bad("they are no JSON object");
    for (const auto &[key, value] : object_.items())
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        std::string names;
        for (std::string_view k : known) names += (names.empty() ? "" : ", ") + std::string(k);
        throw bad("there is no option \"" + key + "\"; there are: " + names);
      }
  }
  uint64_t number(const char *key, uint64_t least, uint64_t most, uint64_t fallback) const {
    if (!object_.contains(key)) return fallback;
    const auto &value = object_[key];
    if (!value.is_number_unsigned() || value.get<uint64_t>() < least || value.get<uint64_t>() > most)
      throw bad(std::string(key) + " must be a whole number from " + std::to_string(least) + " to " +
                std::to_string(most));
    return value.get<uint64_t>();
  }
  std::string text(const char *key, std::string_view fallback) const {
    if (!object_.contains(key)) return std::string(fallback);
    const auto &value = object_[key];
    if (!value.is_string() || value.get_ref<const std::string &>().empty() ||
        value.get_ref<const std::string &>().size() > THOLE_MAX_NAME)
      throw bad(std::string(key) + " must be a text of 1 to " + std::to_string(THOLE_MAX_NAME) + " bytes");
    return value.get<std::string>();
  }
  bool flag(const char *key) const {
    if (!object_.contains(key)) return false;
    if (!object_[key].is_boolean()) throw bad(std::string(key) + " must be true or false");
    return object_[key].get<bool>();
  }

 private:
  static failure bad(const std::string &what) { return {THOLE_INVALID, "PluginOptionsBad", "options: " + what}; }
  nlohmann::json object_;
};

// Runs a plugin's work and lets nothing out of it.
template <class F>
thole_code contained(thole_status *status, F &&work) noexcept {
  try {
    return work();
  } catch (const failure &f) {
    return refuse(f, status);
  } catch (const std::bad_alloc &) {
    return refuse({THOLE_EXHAUSTED, "OutOfMemory", {}}, status);
  } catch (const std::exception &e) {
    return refuse({THOLE_INTERNAL, "Defect", e.what()}, status);
  } catch (...) {
    return refuse({THOLE_INTERNAL, "Defect", "an exception of an unknown type"}, status);
  }
}

}  // namespace device
