// loader/log_lines.h: what is said while a lock is held, told to the host when none is.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"

namespace thole::loader {

// Lines of a core's loader and of its plugins, in the order in which they were said. Bounded: a plugin that talks
// without end loses its last lines, not the host's memory.
class log_lines {
 public:
  void add(thole_log_level level, std::string_view component, std::string text) {
    const std::lock_guard lock(mutex_);
    if (lines_.size() < most) lines_.push_back({level, component, std::move(text)});
    else ++lost_;
  }

  // The caller holds no lock.
  void tell(const log_sink &host) {
    std::vector<line> lines;
    std::size_t lost = 0;
    {
      const std::lock_guard lock(mutex_);
      lines.swap(lines_);
      lost = std::exchange(lost_, 0);
    }
    for (const line &l : lines) host.write(l.level, l.component, "{}", l.text);
    if (lost != 0) host.write(THOLE_LOG_WARN, "loader", "{} more lines were said and not kept", lost);
  }

 private:
  static constexpr std::size_t most = 1024;
  struct line {
    thole_log_level level;
    std::string_view component;  // of static life
    std::string text;
  };
  std::mutex mutex_;
  std::vector<line> lines_;
  std::size_t lost_ = 0;
};

}  // namespace thole::loader
