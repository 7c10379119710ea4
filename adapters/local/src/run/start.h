// run/start.h: from files to a job that is placed and written down, and from a dead controller's job to one that goes
// on.
#pragma once

#include <string>

#include "run/controller.h"

namespace thole::local {

// A job file and a pool file, read. Without a pool file the pool is this machine, as it is.
struct job_files {
  document job;
  job_spec spec;
  pool_choice pool;
  std::vector<remark> pool_remarks;
  std::string folder;  // of the job file: where its relative paths begin
};
result<job_files> read_job_files(const library &core, const std::string &job_path, const std::string &pool_path);
result<pool_choice> read_pool(const library &core, const std::string &path, std::vector<remark> *remarks);

// Runs a new job to its end. Before anything of it exists: JobExists, CommandNotFound, GangNoFit..., NoDriver, ...
result<job_state> run_new_job(const layout &l, const job_files &files, run_options options);

// Goes on with a job whose controller was killed, or that was stopped or given up.
result<job_state> resume_job(const layout &l, const std::string &name, run_options options);

}  // namespace thole::local
