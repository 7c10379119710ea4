// loader/call_lock.h: one call at a time into a plugin, and a stop that does not wait for one for ever.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace thole::loader {

// What std::timed_mutex is, of which gcc 12's thread sanitizer does not see try_lock_until (it has no word for
// pthread_mutex_clocklock).
class call_lock {
 public:
  void lock() {
    std::unique_lock inner(mutex_);
    free_.wait(inner, [&] { return !taken_; });
    taken_ = true;
  }

  bool try_lock_until(std::chrono::steady_clock::time_point until) {
    std::unique_lock inner(mutex_);
    if (!free_.wait_until(inner, until, [&] { return !taken_; })) return false;
    taken_ = true;
    return true;
  }

  void unlock() {
    const std::lock_guard inner(mutex_);
    taken_ = false;
    free_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable free_;
  bool taken_ = false;
};

}  // namespace thole::loader
