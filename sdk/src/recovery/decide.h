// recovery/decide.h: restart or stop, out of nothing but what has happened so far.
//
// No clock, no state, no randomness: the same history gives the same decision on every machine. That it stops is shown
// in docs/adr (recovery stops).
#pragma once

#include <thole/draft/recovery.h>

#include <cstdint>
#include <span>
#include <string>

#include "base/id.h"
#include "base/status.h"

namespace thole::recovery {

enum class incident_kind : int32_t {
  exit = THOLE_INCIDENT_EXIT,
  signal = THOLE_INCIDENT_SIGNAL,
  hang = THOLE_INCIDENT_HANG,
  start = THOLE_INCIDENT_START,
  memory = THOLE_INCIDENT_MEMORY,
  node = THOLE_INCIDENT_NODE,
  early = THOLE_INCIDENT_EARLY
};

struct incident {
  incident_kind kind{};
  uint32_t rank = 0;
  int32_t code = 0;  // exit code or signal; of `start` the errno, 0 if the rank never joined
  uint64_t attempt = 0;
  uint64_t step = 0;  // newest that is safe in a committed checkpoint
  id128 cause;        // zero: not known, and then equal to no other
};

struct policy {
  uint32_t max_incidents = 0;         // 0: 100
  uint32_t max_without_progress = 0;  // 0: 3
  uint32_t max_same_cause = 0;        // 0: 2
  int64_t min_delay_ns = 0;
  int64_t max_delay_ns = 0;  // 0: not limited
};

enum class action : int32_t { restart = THOLE_RECOVERY_RESTART, stop = THOLE_RECOVERY_STOP };

struct decision {
  action what = action::stop;
  uint32_t without_progress = 0;
  int64_t delay_ns = 0;
  reason why{};
  std::string message;
};

constexpr uint64_t most_incidents = 100'000;  // of a history

// Decides after the last incident of the job's whole history, oldest first. HistoryBad, ArgumentBad, OverBound.
result<decision> decide(std::span<const incident> history, const policy &limits);

}  // namespace thole::recovery
