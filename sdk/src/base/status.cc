#include "base/status.h"

#include <algorithm>
#include <cstring>

namespace thole {
namespace {

struct entry {
  std::string_view name;
  thole_code code;
};

constexpr entry table[] = {
#define X(name, code, meaning, remedy) {#name, code},
    THOLE_REASONS(X)
#undef X
};

constexpr bool names_fit() {
  for (const entry &e : table)
    if (e.name.size() >= sizeof(thole_status::reason)) return false;
  return true;
}
static_assert(names_fit(), "a reason's name must fit thole_status.reason");

// Writes into a fixed array, never beyond it: what fmt needs to know of an output iterator.
struct bounded {
  char *begin;
  std::size_t room;
};

std::size_t format_into(bounded to, fmt::string_view format, fmt::format_args args) noexcept {
  try {
    // vformat_to_n counts what it would have written and keeps to its bound, without an allocation.
    auto out = fmt::vformat_to_n(to.begin, to.room, format, args);
    return std::min<std::size_t>(out.size, to.room);
  } catch (...) {
    return 0;  // A wrong format string; the reason still tells what happened.
  }
}

// A sentence goes into terminals, Kubernetes events and squeue: no control characters, no cut UTF-8 sequence.
std::size_t clean(char *text, std::size_t length, bool cut) noexcept {
  if (cut) {
    while (length > 0 && (static_cast<unsigned char>(text[length - 1]) & 0xC0) == 0x80) --length;
    if (length > 0 && static_cast<unsigned char>(text[length - 1]) >= 0xC0) --length;
  }
  for (std::size_t i = 0; i < length; ++i)
    if (static_cast<unsigned char>(text[i]) < 0x20 || text[i] == 0x7F) text[i] = ' ';
  return length;
}

}  // namespace

thole_code code_of(reason r) noexcept {
  return table[static_cast<std::size_t>(r)].code;
}
std::string_view name_of(reason r) noexcept {
  return table[static_cast<std::size_t>(r)].name;
}

error make_error(reason why, fmt::string_view format, fmt::format_args args) noexcept {
  error e;
  e.why = why;
  constexpr std::size_t room = sizeof(e.message) - 1;
  std::size_t n = format_into({e.message, room}, format, args);
  const bool cut = n >= room;
  if (cut) e.flags |= THOLE_STATUS_TRUNCATED;
  n = clean(e.message, n, cut);
  e.message[n] = '\0';
  e.length = static_cast<uint16_t>(n);
  return e;
}

error make_system_error(reason why, int os_errno, fmt::string_view format, fmt::format_args args) noexcept {
  error e = make_error(why, format, args);
  e.os_errno = os_errno;
  char buffer[96];
  // The GNU form: does not touch the process-wide buffer of strerror.
  const char *text = strerror_r(os_errno, buffer, sizeof(buffer));
  const std::string_view parts[] = {": ", text};
  for (std::string_view part : parts) {
    const std::size_t n = std::min(part.size(), sizeof(e.message) - 1 - e.length);
    std::memcpy(e.message + e.length, part.data(), n);
    e.length = static_cast<uint16_t>(e.length + n);
  }
  e.message[e.length] = '\0';
  return e;
}

thole_code report(const error &e, thole_status *status) noexcept {
  if (status == nullptr) return e.code();
  thole_status full{};
  full.code = e.code();
  full.flags = e.flags;
  full.os_errno = e.os_errno;
  full.device_code = e.device_code;
  const std::string_view name = name_of(e.why);
  std::memcpy(full.reason, name.data(), name.size());
  std::memcpy(full.message, e.message, e.length);
  // Not one byte beyond what the caller has, and struct_size stays what the caller set.
  const uint64_t size = status->struct_size;
  if (size <= sizeof(uint64_t)) return full.code;
  full.struct_size = size;
  // An older struct's last text still ends, and says if it was cut.
  if (size < sizeof(full)) {
    char *const last = reinterpret_cast<char *>(&full) + size - 1;
    if (size > offsetof(thole_status, reason) && *last != '\0') {
      *last = '\0';
      full.flags |= THOLE_STATUS_TRUNCATED;
    }
  }
  std::memcpy(status, &full, std::min<uint64_t>(size, sizeof(full)));
  return full.code;
}

}  // namespace thole
