// state/job_state.h: all that is remembered of a job, and that a controller needs to go on after another was killed.
#pragma once

#include <thole/base.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/problem.h"
#include "state/layout.h"

namespace thole::local {

using json = nlohmann::ordered_json;

// planned -> running <-> recovering -> done | failed | stopped. `stopping` is on the way to stopped.
enum class phase { planned, running, recovering, stopping, done, failed, stopped };
std::string phase_text(phase p);
bool is_final(phase p) noexcept;

// A process, for ever: a pid alone is given to another one day.
struct process_name {
  int pid = 0;
  uint64_t start = 0;  // clock ticks since boot: field 22 of /proc/PID/stat
  std::string boot;    // /proc/sys/kernel/random/boot_id
};

struct grant_state {
  std::string uuid;
  std::string kind;  // "whole", "vgpu", "mig"
  uint64_t memory_mib = 0;
  uint32_t share_milli = 0;
  std::string mig_profile;
  uint32_t mig_start = 0;  // its place on the GPU, in memory slices
  uint32_t mig_size = 0;
  bool simulated = false;
};

struct member_state {
  uint32_t role = 0;
  uint32_t member = 0;
  uint32_t first_rank = 0;
  uint32_t ranks = 1;
  std::string role_name;
  std::string node;
  std::vector<grant_state> grants;
};

struct incident_state {
  std::string kind;  // exit, signal, hang, start, memory, early
  uint32_t rank = 0;
  int32_t code = 0;
  uint64_t attempt = 0;
  uint64_t at_step = 0;    // of the rank, when it happened
  uint64_t safe_step = 0;  // newest committed checkpoint
  thole_id cause{};
  std::string message;
  std::vector<std::string> traceback;
  int64_t detection_ns = -1;  // -1: nobody knows when it really happened
  int64_t recovery_ns = -1;   // from the detection to the next new train step
  uint64_t restored_step = 0;
  std::string decision;  // reason of the recovery service
};

struct checkpoint_state {
  uint64_t step = 0;
  uint64_t attempt = 0;
  uint32_t parts = 0;  // that have reported
  bool committed = false;
  uint64_t bytes = 0;
  uint64_t file_bytes = 0;
  double seconds = 0;  // of the slowest part
};

struct job_state {
  std::string name;
  thole_id run{};
  std::vector<std::string> runs;  // of this name, whose checkpoints are kept: the newest is last
  thole_id gang{};
  phase now = phase::planned;
  std::string ledger;
  bool simulated = false;
  std::string backend;
  std::string folder;  // in which `thole run` was started: relative paths of the job begin here
  std::string store;   // folder of the run's checkpoints; empty: the job makes none
  std::string key_file;
  uint64_t attempt = 0;
  uint64_t steps_run = 0;    // over all attempts
  uint64_t newest_step = 0;  // of all ranks
  int64_t started_wall_ns = 0;
  int64_t ended_wall_ns = 0;
  int64_t run_ns = 0;  // over all controllers
  process_name controller;
  std::string runtime;                  // folder of the sockets
  std::vector<process_name> processes;  // of the running attempt
  std::vector<member_state> members;
  std::vector<incident_state> incidents;
  std::vector<checkpoint_state> checkpoints;  // the newest 64
  uint64_t checkpoints_committed = 0;
  json result = json::object();
  int exit_code = 0;
  std::string reason;
  std::string message;
};

json to_json(const job_state &s);
result<job_state> job_state_from(std::string_view text, const std::string &file);

result<> save(const layout &l, const job_state &s);
// Fails: JobUnknown.
result<job_state> load(const layout &l, const std::string &name);

// The lock that a job's controller holds as long as it lives. Fails: JobExists. It is asked for a second, since a
// command that looks for orphans may hold it for a moment.
result<file_lock> lock_job(const layout &l, const std::string &name, int patience_ms = 1000);
bool job_is_running(const layout &l, const std::string &name);

}  // namespace thole::local
