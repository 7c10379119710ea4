#include "run/event_loop.h"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>

namespace thole::local {

result<std::unique_ptr<event_loop>> event_loop::create() {
  auto loop = std::make_unique<event_loop>();
  loop->epoll_ = unique_fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_) return fail_errno(reason::SystemCallFailed, errno, "cannot make an epoll descriptor");
  return loop;
}

void event_loop::watch(int fd, std::function<void()> ready) {
  const uint32_t generation = ++generation_;
  entries_[fd] = {generation, std::move(ready)};
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<uint64_t>(generation) << 32 | static_cast<uint32_t>(fd);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) entries_.erase(fd);
}

void event_loop::forget(int fd) {
  if (entries_.erase(fd) > 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void event_loop::watch_signals(std::function<void(int)> arrived) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int s : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::sigaddset(&set, s);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  arrived_ = std::move(arrived);
  signals_ = unique_fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  watch(signals_.get(), [] {});
}

void event_loop::read_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
    arrived_(static_cast<int>(info.ssi_signo));
}

void event_loop::wait(int milliseconds) {
  epoll_event events[64];
  const int n = ::epoll_wait(epoll_.get(), events, 64, milliseconds);
  if (n <= 0) return;
  ++batch_;
  if (signals_) read_signals();
  for (int i = 0; i < n; ++i) {
    const int fd = static_cast<int>(events[i].data.u64 & 0xFFFFFFFF);
    const auto at = entries_.find(fd);
    // An earlier event of this batch may have closed it, and even opened another of the same number.
    if (at == entries_.end() || at->second.generation != events[i].data.u64 >> 32) continue;
    const auto ready = at->second.ready;  // a copy: it may forget itself
    ready();
  }
}

}  // namespace thole::local
