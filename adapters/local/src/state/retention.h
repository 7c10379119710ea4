// state/retention.h: what is forgotten, so that the state folder stays bounded.
#pragma once

#include <cstdint>
#include <string>

#include "state/job_state.h"

namespace thole::local {

// How many of each are kept: the newest. docs/reference/state.md has these numbers.
struct retention {
  uint32_t jobs = 50;      // that have ended
  uint32_t attempts = 10;  // of a job: their logs and records. Their counters stay, since a counter never goes back
  uint32_t runs = 5;       // of a job: their checkpoints, where the state folder is the store
};

// Jobs that have ended, beyond the newest, are forgotten with their folders; no checkpoint is touched.
void forget_old_jobs(const layout &l, uint32_t keep);

// Logs and records of attempts of a job before the newest `keep`, of which `newest` is one.
void forget_old_attempts(const layout &l, const std::string &job, uint64_t newest, uint32_t keep);

// Writes this run down as the job's newest, and deletes the checkpoints of those before the newest `keep`. A store that
// the job file has bound to a folder of its own is its owner's: nothing is deleted there.
void forget_old_runs(const layout &l, job_state &s, uint32_t keep);

}  // namespace thole::local
