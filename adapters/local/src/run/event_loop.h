// run/event_loop.h: waits for descriptors and signals, on one thread.
#pragma once

#include <sys/signalfd.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "base/files.h"

namespace thole::local {

class event_loop {
 public:
  static result<std::unique_ptr<event_loop>> create();

  // `ready` is called when there is something to read, or the other end is gone.
  void watch(int fd, std::function<void()> ready);
  void forget(int fd);

  // SIGINT, SIGTERM, SIGHUP and SIGCHLD arrive here from now on. They are told before anything else of their batch:
  // what ended is known before what others say about it.
  void watch_signals(std::function<void(int signal)> arrived);

  // One batch of events, or none within the time. batch() counts them: what is of one batch came at one time.
  void wait(int milliseconds);
  uint64_t batch() const noexcept { return batch_; }

 private:
  struct entry {
    uint32_t generation;
    std::function<void()> ready;
  };
  void read_signals();
  unique_fd epoll_;
  unique_fd signals_;
  std::function<void(int)> arrived_;
  std::map<int, entry> entries_;
  uint32_t generation_ = 0;
  uint64_t batch_ = 0;
};

}  // namespace thole::local
