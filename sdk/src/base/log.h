// base/log.h: where the core's few words go: to the host's log table, or nowhere.
#pragma once

#include <thole/core.h>

#include "base/status.h"
#include "base/text.h"

namespace thole {

// A copy of the host's table, cheap to pass. Never called under a lock.
class log_sink {
 public:
  log_sink() = default;
  explicit log_sink(const thole_host_log &host) noexcept : host_(host) {
    if (host_.level == 0) host_.level = THOLE_LOG_INFO;
  }
  const thole_host_log *host() const noexcept { return host_.write == nullptr ? nullptr : &host_; }

  template <class... Args>
  void write(thole_log_level level, std::string_view component, fmt::format_string<Args...> format,
             Args &&...args) const noexcept {
    if (host_.write == nullptr || level < host_.level) return;
    const error e = make_error(reason{}, format, fmt::make_format_args(args...));
    host_.write(host_.self, level, borrow(component), borrow(e.text()));
  }

 private:
  thole_host_log host_{};
};

}  // namespace thole
