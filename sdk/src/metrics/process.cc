#include "metrics/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "base/file.h"
#include "base/text.h"

namespace thole::metrics {
namespace {

result<id128> boot_id() {
  THOLE_LET(const std::string text, read_file("/proc/sys/kernel/random/boot_id", 64));
  const auto id = parse_id(std::string_view(text).substr(0, 36));
  if (!id) return fail(reason::SystemCallFailed, "the kernel's boot id cannot be read");
  return *id;
}

struct process_state {
  char letter = 0;
  uint64_t start_ticks = 0;
};

// Fields 3 and 22 of /proc/PID/stat. Field 2, the name, is in parentheses and may hold spaces and parentheses itself.
std::optional<process_state> state_of(const std::string &pid) {
  const auto text = read_file("/proc/" + pid + "/stat", 8192);
  if (!text) return std::nullopt;
  const std::size_t name_end = text->rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text->size()) return std::nullopt;
  std::string_view rest = std::string_view(*text).substr(name_end + 2);
  process_state out;
  out.letter = rest[0];
  for (int field = 3; field < 22; ++field) {
    const std::size_t space = rest.find(' ');
    if (space == std::string_view::npos) return std::nullopt;
    rest.remove_prefix(space + 1);
  }
  const auto ticks = parse_u64(rest.substr(0, rest.find(' ')));
  if (!ticks) return std::nullopt;
  out.start_ticks = *ticks;
  return out;
}

}  // namespace

result<process_mark> this_process() {
  THOLE_LET(const id128 boot, boot_id());
  const auto state = state_of("self");
  if (!state) return fail(reason::SystemCallFailed, "/proc/self/stat cannot be read: mount /proc");
  return process_mark{boot, static_cast<uint64_t>(getpid()), state->start_ticks};
}

bool lives(const process_mark &mark) {
  const auto boot = boot_id();
  if (!boot || *boot != mark.boot) return false;
  const auto state = state_of(fmt::format("{}", mark.pid));
  return state && state->start_ticks == mark.start_ticks && state->letter != 'Z' && state->letter != 'X';
}

}  // namespace thole::metrics
