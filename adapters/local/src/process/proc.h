// process/proc.h: what /proc tells of processes: who they are, whose children, in which state, of which job.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "state/job_state.h"

namespace thole::local {

struct proc_stat {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = '?';  // T: stopped
  uint64_t start = 0;
};

std::optional<proc_stat> read_stat(pid_t pid);
std::vector<proc_stat> all_processes();

// A process by its name for ever.
process_name name_of(pid_t pid);
const std::string &boot_id();
bool still_lives(const process_name &p);

// The value of a variable in a process's initial environment; empty if it cannot be read.
std::string environment_of(pid_t pid, const std::string &variable);

// All that descend from this process.
std::vector<proc_stat> descendants();

// Sends a signal to exactly this process; a later one of the same number is spared.
void signal_process(const process_name &p, int signal) noexcept;

}  // namespace thole::local
