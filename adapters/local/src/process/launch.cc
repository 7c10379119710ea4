#include "process/launch.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/text.h"

namespace thole::local {
namespace {

mode_t umask_of_user = 022;

struct exec_failure {
  int os_errno;
  int at_folder;  // chdir failed, not execve
};

// Between fork and exec: only what is async-signal-safe, and no allocation.
[[noreturn]] void become(const char *program, char *const *argv, char *const *envp, const char *folder, int go,
                         int failure, int input, int output, pid_t parent) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  sigset_t none;
  ::sigemptyset(&none);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int s = 1; s < NSIG; ++s) ::sigaction(s, &standard, nullptr);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::umask(umask_of_user);
  if (::dup2(input, 0) < 0 || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0) ::_exit(127);
  char word = 0;
  ssize_t n = 0;
  do n = ::read(go, &word, 1);
  while (n < 0 && errno == EINTR);
  if (n != 1) ::_exit(127);  // nobody is there any more who would watch
  exec_failure failed{0, 1};
  if (::chdir(folder) == 0) {
    failed.at_folder = 0;
    ::execve(program, argv, envp);
  }
  failed.os_errno = errno;
  [[maybe_unused]] const ssize_t told = ::write(failure, &failed, sizeof failed);
  ::_exit(127);
}

std::vector<char *> pointers(const std::vector<std::string> &texts) {
  std::vector<char *> p;
  p.reserve(texts.size() + 1);
  for (const std::string &t : texts) p.push_back(const_cast<char *>(t.c_str()));
  p.push_back(nullptr);
  return p;
}

result<> make_pipe(unique_fd &read, unique_fd &write) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot make a pipe");
  read = unique_fd(ends[0]);
  write = unique_fd(ends[1]);
  return {};
}

// Whether a file can be executed, or why not.
result<> check_program(const std::string &path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0)
    return fail(reason::CommandNotFound, "the command {} is not there: correct spec.roles[].command", path);
  if (S_ISDIR(s.st_mode)) return fail(reason::CommandNotExecutable, "the command {} is a folder", path);
  if (::access(path.c_str(), X_OK) != 0)
    return fail(reason::CommandNotExecutable,
                "the command {} is not executable: chmod +x it, or start it through its interpreter", path);
  return {};
}

}  // namespace

void keep_files_private() {
  umask_of_user = ::umask(077);
}

result<std::string> find_program(const std::string &name, const std::string &search_path, const std::string &folder) {
  if (name.find('/') != std::string::npos) {
    const std::string path = name[0] == '/' ? name : folder + "/" + name;
    THOLE_TRY(check_program(path));
    return path;
  }
  std::string refused;
  for (const std::string &place : split(search_path, ':')) {
    const std::string path =
        place.empty() ? folder + "/" + name : (place[0] == '/' ? "" : folder + "/") + place + "/" + name;
    if (check_program(path)) return path;
    struct stat s {};
    if (refused.empty() && ::stat(path.c_str(), &s) == 0 && !S_ISDIR(s.st_mode)) refused = path;
  }
  if (!refused.empty())
    return fail(reason::CommandNotExecutable, "the command {} is not executable: chmod +x it", refused);
  return fail(reason::CommandNotFound, "the command {} is not in PATH ({}): correct spec.roles[].command or PATH", name,
              search_path);
}

result<waiting_process> waiting_process::fork(const launch_request &request) {
  waiting_process p;
  unique_fd go_read;
  unique_fd failure_write;
  unique_fd output_write;
  THOLE_TRY(make_pipe(go_read, p.go_));
  THOLE_TRY(make_pipe(p.failure_, failure_write));
  THOLE_TRY(make_pipe(p.output_, output_write));
  const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null) return fail_errno(reason::SystemCallFailed, errno, "cannot open /dev/null");
  // All memory that the child needs is made before the fork.
  const std::vector<char *> argv = pointers(request.arguments);
  const std::vector<char *> envp = pointers(request.environment);
  const pid_t parent = ::getpid();
  p.pid_ = ::fork();
  if (p.pid_ < 0) return fail_errno(reason::SystemCallFailed, errno, "cannot start a process");
  if (p.pid_ == 0) {
    ::close(p.go_.get());  // or the child would never see that the parent is gone
    become(request.program.c_str(), argv.data(), envp.data(), request.folder.c_str(), go_read.get(),
           failure_write.get(), null.get(), output_write.get(), parent);
  }
  return p;
}

result<> waiting_process::go(const std::string &program) {
  const char word = 1;
  if (::write(go_.get(), &word, 1) != 1) return fail_errno(reason::SystemCallFailed, errno, "cannot start {}", program);
  go_.reset();
  exec_failure failed{};
  ssize_t n = 0;
  do n = ::read(failure_.get(), &failed, sizeof failed);  // ends with nothing when execve closes the other end
  while (n < 0 && errno == EINTR);
  failure_.reset();
  if (n != static_cast<ssize_t>(sizeof failed)) return {};
  if (failed.at_folder != 0)
    return fail_errno(reason::CommandNotFound, failed.os_errno, "cannot enter the working folder of {}", program);
  if (failed.os_errno == ENOENT)
    return fail(reason::CommandNotFound, "{} or the interpreter in its first line is not there", program);
  return fail_errno(reason::CommandNotExecutable, failed.os_errno, "cannot execute {}", program);
}

result<uint16_t> free_port() {
  uint64_t above = 32768;
  if (auto range = read_file("/proc/sys/net/ipv4/ip_local_port_range", 256))
    above = parse_u64(range->substr(0, range->find_first_of(" \t"))).value_or(above);
  if (above < 12000 || above > 60000) above = 32768;
  for (int tries = 0; tries < 256; ++tries) {
    uint32_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random)) continue;
    const auto port = static_cast<uint16_t>(10000 + random % (above - 10000));
    const unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_port = htons(port);
    any.sin_addr.s_addr = htonl(INADDR_ANY);
    if (fd && ::bind(fd.get(), reinterpret_cast<const sockaddr *>(&any), sizeof any) == 0 && ::listen(fd.get(), 1) == 0)
      return port;
  }
  return fail(reason::SystemCallFailed, "no TCP port between 10000 and {} is free on this machine", above);
}

}  // namespace thole::local
