#include "run/rank_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/log.h"

namespace thole::local {

result<std::unique_ptr<rank_socket>> rank_socket::open(event_loop &loop, const std::string &path, events e) {
  std::unique_ptr<rank_socket> s(new rank_socket(loop));
  s->events_ = std::move(e);
  s->path_ = path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(reason::OverBound, "the socket path {} is longer than 107 bytes: set XDG_RUNTIME_DIR to a short folder",
                path);
  std::memcpy(address.sun_path, path.data(), path.size());
  s->listener_ = unique_fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ::unlink(path.c_str());
  if (!s->listener_ || ::bind(s->listener_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 ||
      ::listen(s->listener_.get(), 1024) != 0)
    return fail_errno(reason::SystemCallFailed, errno, "cannot open the socket {}", path);
  rank_socket *self = s.get();
  loop.watch(s->listener_.get(), [self] { self->accept(); });
  return s;
}

rank_socket::~rank_socket() {
  for (auto &[number, c] : connections_) loop_.forget(c.fd.get());
  if (listener_) loop_.forget(listener_.get());
  ::unlink(path_.c_str());
}

void rank_socket::accept() {
  for (;;) {
    unique_fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    ucred peer{};
    socklen_t size = sizeof peer;
    // The folder is private; this is for the superuser's processes, which enter everywhere.
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != ::geteuid()) continue;
    if (connections_.size() >= most_connections) continue;
    const int number = next_++;
    loop_.watch(fd.get(), [this, number] { read(number); });
    connections_[number].fd = std::move(fd);
  }
}

void rank_socket::read(int number) {
  char piece[65536];
  for (;;) {
    const auto at = connections_.find(number);
    if (at == connections_.end()) return;
    const ssize_t n = ::recv(at->second.fd.get(), piece, sizeof piece, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return close(number);
    at->second.pending.append(piece, static_cast<std::size_t>(n));
    if (!cut_lines(number)) return close(number);
  }
}

// False if the peer does not speak the protocol.
bool rank_socket::cut_lines(int number) {
  std::string pending = std::move(connections_[number].pending);
  std::size_t begin = 0;
  for (std::size_t end = pending.find('\n'); end != std::string::npos; end = pending.find('\n', begin)) {
    const std::string_view line(pending.data() + begin, end - begin);
    begin = end + 1;
    json message = json::parse(line, nullptr, false);
    if (line.size() > most_line_bytes || !message.is_object()) {
      warn("a rank's connection was closed: it sent a line that is no JSON object of at most {} bytes",
           most_line_bytes);
      return false;
    }
    events_.message(number, message);
    if (connections_.find(number) == connections_.end()) return true;  // closed by what it said
  }
  pending.erase(0, begin);
  if (pending.size() > most_line_bytes) {
    warn("a rank's connection was closed: it sent a line of more than {} bytes", most_line_bytes);
    return false;
  }
  connections_[number].pending = std::move(pending);
  return true;
}

void rank_socket::send(int number, const json &message) {
  const auto at = connections_.find(number);
  if (at == connections_.end()) return;
  const std::string line = message.dump() + "\n";
  // A stop request is some 60 bytes: a socket that has no room for them belongs to a rank that reads nothing.
  [[maybe_unused]] const ssize_t sent =
      ::send(at->second.fd.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void rank_socket::close(int number) {
  const auto at = connections_.find(number);
  if (at == connections_.end()) return;
  loop_.forget(at->second.fd.get());
  connections_.erase(at);
  events_.closed(number);
}

void rank_socket::drain() {
  accept();
  std::vector<int> numbers;
  for (const auto &[number, c] : connections_) numbers.push_back(number);
  for (const int number : numbers) read(number);
}

}  // namespace thole::local
