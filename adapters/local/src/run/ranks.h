// run/ranks.h: what is known of the members and ranks of one attempt.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "process/rank_log.h"
#include "state/job_state.h"

namespace thole::local {

// What a rank's excepthook has told.
struct failure_report {
  std::string type;
  std::string message;
  std::string place;
  std::vector<std::string> traceback;
  uint64_t batch = 0;
};

struct rank_view {
  uint32_t rank = 0;
  std::size_t member = 0;  // index
  int connection = 0;      // 0: it has not come, or has gone
  bool joined = false;
  uint64_t closed_batch = 0;  // when its connection ended; 0: it has not
  int pid = 0;
  int64_t alive_ns = 0;     // last word of any kind
  uint64_t step = 0;        // train steps done, by its own word
  bool stepped = false;     // in this attempt
  int64_t progress_ns = 0;  // last step, seal, checkpoint, restore or result
  bool reported = false;    // its result is in
  uint64_t seals = 0;
  std::optional<failure_report> failure;
};

struct member_process {
  member_state where;
  process_name process;
  std::unique_ptr<rank_log> log;
  bool exited = false;
  int status = 0;  // as waitpid has it
  uint64_t batch = 0;
  int64_t exit_ns = 0;
  int64_t stopped_since_ns = 0;  // in state T; 0: it is not
  // 0 and EXIT_STOPPED are no failure.
  bool failed() const noexcept;
};

constexpr int exit_stopped = 75;  // stopped on request, after a last checkpoint

// Everything that an incident is found from.
struct attempt_view {
  uint64_t attempt = 0;
  int64_t started_ns = 0;
  std::vector<member_process> members;
  std::vector<rank_view> ranks;
  uint64_t newest_step() const noexcept;
};

// The first that ended badly, or whose program said that it fails. Nothing if all is well.
// `settled` is set when no more is to be learned by waiting: its process has ended.
std::optional<incident_state> find_failure(const attempt_view &a, bool memory_was_out, bool *settled);

// Whether a rank whose connection ended without a word has a process that is still being taken down.
bool is_dying(const attempt_view &a);

// A rank without progress for longer than allowed, and which one was first. heartbeat_ns: how long silence is normal.
struct patience {
  int64_t start_ns = 0;  // 0: for ever
  int64_t hang_ns = 0;
};
std::optional<incident_state> find_hang(const attempt_view &a, const patience &p, int64_t now);

std::string describe(const incident_state &i);

}  // namespace thole::local
