#include "files.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

extern char **environ;

namespace thole::slurm {

result<std::string> read_file(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(reason::JobUnknown, "{} cannot be read: {}", path, std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

result<> write_file(const std::string &path, const std::string &text) {
  const std::string fresh = path + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool good = fd >= 0;
  std::size_t done = 0;
  while (good && done < text.size()) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    good = n > 0 || errno == EINTR;
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  good = good && ::fsync(fd) == 0;
  const int why = errno;
  if (fd >= 0) ::close(fd);
  if (!good || ::rename(fresh.c_str(), path.c_str()) != 0)
    return fail(reason::StateUnwritable, "{} cannot be written: {}", path, std::strerror(good ? errno : why));
  return {};
}

result<> make_private_folder(const std::string &path) {
  std::error_code bad;
  const std::filesystem::path folder(path);
  if (folder.has_parent_path()) std::filesystem::create_directories(folder.parent_path(), bad);
  struct stat s {};
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail(reason::StateUnwritable, "{} cannot be made: {}; choose another with --state", path,
                std::strerror(errno));
  if (::stat(path.c_str(), &s) != 0 || !S_ISDIR(s.st_mode) || (s.st_mode & 022) != 0)
    return fail(reason::StateNotPrivate, "{} is no folder that only its owner may write to: chmod 700 it", path);
  return {};
}

bool exists(const std::string &path) {
  return ::access(path.c_str(), F_OK) == 0;
}

std::string absolute(const std::string &path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

namespace {

// Both pipes until both are closed.
void read_both(int out, int err, finished &f) {
  pollfd fds[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  std::string *texts[2] = {&f.out, &f.err};
  for (int left = 2; left > 0;) {
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
    for (int i = 0; i < 2; ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      char bytes[4096];
      const ssize_t n = ::read(fds[i].fd, bytes, sizeof bytes);
      if (n > 0) texts[i]->append(bytes, static_cast<std::size_t>(n));
      else if (n == 0 || errno != EINTR) fds[i].fd = -1, --left;
    }
  }
}

}  // namespace

result<finished> run_program(const std::vector<std::string> &argv) {
  std::vector<char *> words;
  for (const std::string &a : argv) words.push_back(const_cast<char *>(a.c_str()));
  words.push_back(nullptr);
  int out[2];
  int err[2];
  if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0)
    return fail(reason::SystemCallFailed, "no pipe: {}", std::strerror(errno));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  ::posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  pid_t pid = 0;
  const int bad = ::posix_spawnp(&pid, words[0], &actions, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(out[1]);
  ::close(err[1]);
  finished f;
  if (bad == 0) read_both(out[0], err[0], f);
  ::close(out[0]);
  ::close(err[0]);
  if (bad != 0)
    return fail(reason::CommandNotFound, "{} cannot be run: {}; Slurm's commands must be in PATH", argv[0],
                std::strerror(bad));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  f.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return f;
}

std::string own_program() {
  std::error_code bad;
  return std::filesystem::read_symlink("/proc/self/exe", bad).string();
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  std::istringstream in{std::string(text)};
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::optional<uint64_t> number(std::string_view text) {
  uint64_t n = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (bad != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return n;
}

std::string shell_word(const std::string &text) {
  static constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace thole::slurm
