// metrics/process.h: which process this is, so that nobody takes a later one with its pid for it.
#pragma once

#include <cstdint>

#include "base/id.h"
#include "base/status.h"

namespace thole::metrics {

struct process_mark {
  id128 boot;  // of the machine: pids and start times begin anew with it
  uint64_t pid = 0;
  uint64_t start_ticks = 0;  // since boot
  friend bool operator==(const process_mark &, const process_mark &) = default;
};

result<process_mark> this_process();

// Whether that process is there and not a zombie. One that this process may not see counts as gone.
bool lives(const process_mark &mark);

}  // namespace thole::metrics
