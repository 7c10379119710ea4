#include "checkpoint/key_program.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"

namespace thole::checkpoint {
namespace {

constexpr int64_t patience_ms = 10'000;
constexpr std::size_t most_answer = 16384;

tl::unexpected<error> failed(const key_source &helper, std::string_view what) noexcept {
  return fail(reason::KeyHelperFailed, "the key helper {} {}", helper.path, what);
}

int64_t now_ms() noexcept {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1000 + t.tv_nsec / 1'000'000;
}

// A helper that ends early must not kill the host by SIGPIPE: the signal is blocked for this thread, and taken away if
// our write has caused it.
class no_sigpipe {
 public:
  no_sigpipe() noexcept {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~no_sigpipe() {
    const timespec none{};
    if (!was_pending_)
      while (sigtimedwait(&pipe_, nullptr, &none) == -1 && errno == EINTR) {
      }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  no_sigpipe(const no_sigpipe &) = delete;
  no_sigpipe &operator=(const no_sigpipe &) = delete;

 private:
  sigset_t pipe_{};
  sigset_t before_{};
  bool was_pending_ = false;
};

struct pipe_ends {
  unique_fd read;
  unique_fd write;
};
result<pipe_ends> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot make a pipe");
  return pipe_ends{unique_fd(fds[0]), unique_fd(fds[1])};
}

// A child of ours; ended and reaped when dropped.
class process {
 public:
  explicit process(pid_t pid) noexcept : pid_(pid), handle_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
  process(const process &) = delete;
  process &operator=(const process &) = delete;
  ~process() { end(); }
  // Its exit status as waitpid gives it; 0 where the host reaps children itself.
  int end() noexcept {
    if (pid_ <= 0) return 0;
    // By the descriptor, so that no other process is hit if the host has reaped ours and the number was given away.
    if (handle_) static_cast<void>(syscall(SYS_pidfd_send_signal, handle_.get(), SIGKILL, nullptr, 0));
    else ::kill(pid_, SIGKILL);  // a kernel without such descriptors
    return wait();
  }
  int wait() noexcept {
    int status = 0;
    while (waitpid(pid_, &status, 0) == -1)
      if (errno != EINTR) {
        status = 0;
        break;
      }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
  unique_fd handle_;
};

result<pid_t> start(const key_source &helper, int in, int out) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  if (posix_spawn_file_actions_init(&actions) != 0 || posix_spawnattr_init(&attributes) != 0)
    return fail(reason::OutOfMemory, "memory is out");
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  std::vector<char *> argv{const_cast<char *>(helper.path.c_str())};
  for (const std::string &a : helper.arguments) argv.push_back(const_cast<char *>(a.c_str()));
  argv.push_back(nullptr);
  pid_t pid = -1;
  int e = posix_spawn_file_actions_adddup2(&actions, in, 0);
  if (e == 0) e = posix_spawn_file_actions_adddup2(&actions, out, 1);
  if (e == 0) e = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  if (e == 0) e = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  if (e == 0) e = posix_spawnattr_setsigmask(&attributes, &none);
  if (e == 0) e = posix_spawnattr_setsigdefault(&attributes, &all);
  if (e == 0) e = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  // Its environment is the host's; nothing of ours is put there.
  if (e == 0) e = posix_spawn(&pid, helper.path.c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (e != 0) return fail_errno(reason::KeyHelperFailed, e, "the key helper {} cannot be started", helper.path);
  return pid;
}

result<std::string> read_line(int fd, const key_source &helper, int64_t deadline) {
  std::string line;
  line.reserve(most_answer);  // no copy of a key is left behind by growing
  for (;;) {
    pollfd p{fd, POLLIN, 0};
    const int64_t left = deadline - now_ms();
    if (left <= 0) return failed(helper, "did not answer within 10 s");
    const int ready = ::poll(&p, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return fail_errno(reason::KeyHelperFailed, errno, "cannot wait for the key helper");
    if (ready == 0) continue;
    char piece[1024];
    const ssize_t n = ::read(fd, piece, std::min(sizeof piece, most_answer - line.size()));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return fail_errno(reason::KeyHelperFailed, errno, "cannot read from the key helper {}", helper.path);
    if (n == 0) return failed(helper, line.empty() ? "ended without an answer" : "ended within its answer");
    line.append(piece, static_cast<std::size_t>(n));
    OPENSSL_cleanse(piece, sizeof piece);
    if (const auto end = line.find('\n'); end != std::string::npos) {
      line.resize(end);
      return line;
    }
    if (line.size() >= most_answer) return failed(helper, "answered with more than 16 KiB");
  }
}

result<> send(int fd, std::string_view line, const key_source &helper, int64_t deadline) {
  no_sigpipe here;
  while (!line.empty()) {
    pollfd p{fd, POLLOUT, 0};
    const int64_t left = deadline - now_ms();
    if (left <= 0) return failed(helper, "did not read its request within 10 s");
    if (::poll(&p, 1, static_cast<int>(left)) < 0 && errno != EINTR)
      return fail_errno(reason::KeyHelperFailed, errno, "cannot wait for the key helper");
    const ssize_t n = ::write(fd, line.data(), line.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return failed(helper, "ended before it had read its request");
    line.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

result<std::string> converse(const key_source &helper, std::string_view request) {
  THOLE_LET(pipe_ends to, make_pipe());
  THOLE_LET(pipe_ends from, make_pipe());
  if (::fcntl(to.write.get(), F_SETFL, O_NONBLOCK) != 0 || ::fcntl(from.read.get(), F_SETFL, O_NONBLOCK) != 0)
    return fail_errno(reason::SystemCallFailed, errno, "cannot set up a pipe");
  THOLE_LET(const pid_t pid, start(helper, to.read.get(), from.write.get()));
  process child(pid);
  to.read.reset();
  from.write.reset();
  const int64_t deadline = now_ms() + patience_ms;
  THOLE_TRY(send(to.write.get(), request, helper, deadline));
  to.write.reset();
  return read_line(from.read.get(), helper, deadline);
}

std::string base64(octets bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int n =
      EVP_EncodeBlock(reinterpret_cast<unsigned char *>(out.data()), bytes.data(), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(n));
  return out;
}

// Strict: whole groups of four, padding only at the end.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0 || text.size() > most_answer) return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  const int n = EVP_DecodeBlock(reinterpret_cast<unsigned char *>(out.data()),
                                reinterpret_cast<const unsigned char *>(text.data()), static_cast<int>(text.size()));
  if (n != static_cast<int>(out.size())) return std::nullopt;
  std::size_t pad = 0;
  while (pad < 2 && text[text.size() - 1 - pad] == '=') ++pad;
  out.resize(out.size() - pad);
  if (base64(octets_of(out)) != text) return std::nullopt;
  return out;
}

// One request, one answer: its `data`, decoded.
result<std::string> ask(const key_source &helper, const char *op, id128 run, octets data) {
  // Names and base64 need no escaping, and a JSON library would leave copies of the key on the heap.
  std::string encoded = base64(data);
  std::string request =
      fmt::format("{{\"op\":\"{}\",\"key\":\"thole run {}\",\"data\":\"{}\"}}\n", op, to_text(run), encoded);
  auto answered = converse(helper, request);
  OPENSSL_cleanse(request.data(), request.size());
  OPENSSL_cleanse(encoded.data(), encoded.size());
  if (!answered) return answered;
  auto json = nlohmann::json::parse(*answered, nullptr, false);
  OPENSSL_cleanse(answered->data(), answered->size());
  if (!json.is_object()) return failed(helper, "answered with something that is not a JSON object");
  if (const auto e = json.find("error"); e != json.end())
    return fail(reason::KeyHelperFailed, "the key helper {} says: {}", helper.path,
                e->is_string() ? e->get_ref<const std::string &>() : std::string("(no text)"));
  const auto field = json.find("data");
  if (field == json.end() || !field->is_string() || json.size() != 1)
    return failed(helper, R"(must answer {"data":"<base64>"} or {"error":"<text>"})");
  auto &text = field->get_ref<std::string &>();
  auto decoded = from_base64(text);
  OPENSSL_cleanse(text.data(), text.size());
  if (!decoded) return failed(helper, "answered with data that is not base64");
  return std::move(*decoded);
}

}  // namespace

result<std::string> helper_wrap(const key_source &helper, id128 run, const secret &key) {
  THOLE_LET(std::string wrapped, ask(helper, "wrap", run, key.view()));
  if (wrapped.empty() || wrapped.size() > most_wrapped)
    return failed(helper, "wrapped a key into more than 4096 bytes, or none");
  return wrapped;
}

result<secret> helper_unwrap(const key_source &helper, id128 run, std::string_view wrapped) {
  THOLE_LET(std::string plain, ask(helper, "unwrap", run, octets_of(wrapped)));
  if (plain.size() != secret::size) {
    OPENSSL_cleanse(plain.data(), plain.size());
    return failed(helper, "unwrapped something that is not a key of ours");
  }
  auto key = secret::copy(octets_of(plain));
  OPENSSL_cleanse(plain.data(), plain.size());
  return key;
}

}  // namespace thole::checkpoint
