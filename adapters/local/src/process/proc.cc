#include "process/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/files.h"
#include "base/text.h"

namespace thole::local {
namespace {

// Files of /proc are small, and vanish at any time.
std::string read_proc(pid_t pid, const char *file, std::size_t most) {
  const unique_fd fd(::open(("/proc/" + std::to_string(pid) + "/" + file).c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  if (!fd) return text;
  char piece[8192];
  while (text.size() < most) {
    const ssize_t n = ::read(fd.get(), piece, sizeof piece);
    if (n <= 0) break;
    text.append(piece, static_cast<std::size_t>(n));
  }
  return text;
}

}  // namespace

std::optional<proc_stat> read_stat(pid_t pid) {
  const std::string text = read_proc(pid, "stat", 4096);
  // "PID (name, which may hold anything) STATE PPID ... START": fields count from the last ')'.
  const std::size_t close = text.rfind(')');
  if (close == std::string::npos || close + 2 > text.size()) return std::nullopt;
  const std::vector<std::string> fields = split(std::string_view(text).substr(close + 2), ' ');
  if (fields.size() < 20 || fields[0].empty()) return std::nullopt;
  proc_stat s;
  s.pid = pid;
  s.state = fields[0][0];
  s.parent = static_cast<pid_t>(parse_u64(fields[1]).value_or(0));
  s.start = parse_u64(fields[19]).value_or(0);
  return s;
}

std::vector<proc_stat> all_processes() {
  std::vector<proc_stat> all;
  DIR *folder = ::opendir("/proc");
  if (folder == nullptr) return all;
  while (const dirent *entry = ::readdir(folder))
    if (const auto pid = parse_u64(entry->d_name))
      if (const auto s = read_stat(static_cast<pid_t>(*pid))) all.push_back(*s);
  ::closedir(folder);
  return all;
}

const std::string &boot_id() {
  static const std::string id = [] {
    auto text = read_file("/proc/sys/kernel/random/boot_id", 256);
    return text ? text->substr(0, text->find('\n')) : std::string("unknown");
  }();
  return id;
}

process_name name_of(pid_t pid) {
  const auto s = read_stat(pid);
  return {pid, s ? s->start : 0, boot_id()};
}

bool still_lives(const process_name &p) {
  if (p.pid <= 0 || p.boot != boot_id()) return false;
  const auto s = read_stat(p.pid);
  return s && s->start == p.start && s->state != 'Z' && s->state != 'X';
}

std::string environment_of(pid_t pid, const std::string &variable) {
  const std::string text = read_proc(pid, "environ", 4u << 20);
  const std::string start = variable + "=";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\0', at), text.size());
    if (text.compare(at, start.size(), start) == 0) return text.substr(at + start.size(), end - at - start.size());
    at = end + 1;
  }
  return {};
}

std::vector<proc_stat> descendants() {
  const std::vector<proc_stat> all = all_processes();
  std::vector<proc_stat> found;
  std::vector<pid_t> parents{::getpid()};
  for (std::size_t i = 0; i < parents.size(); ++i)
    for (const proc_stat &s : all)
      if (s.parent == parents[i]) {
        parents.push_back(s.pid);
        found.push_back(s);
      }
  return found;
}

void signal_process(const process_name &p, int signal) noexcept {
  const unique_fd fd(static_cast<int>(::syscall(SYS_pidfd_open, p.pid, 0)));
  // The descriptor pins the process: what is checked after it was opened stays true.
  if (fd && still_lives(p)) ::syscall(SYS_pidfd_send_signal, fd.get(), signal, nullptr, 0);
}

}  // namespace thole::local
