// commands.h: the commands of thole-slurm. Each answers its exit code.
#pragma once

#include <string>

#include "problem.h"

namespace thole::slurm {

struct common_options {
  std::string state;
  bool as_json = false;
};

struct submit_options {
  std::string job;
  uint32_t nodes = 0;
  std::string store;
  std::string key;
  bool dry_run = false;
};
result<int> submit(const common_options &common, const submit_options &options);
result<int> status(const common_options &common, const std::string &name);
result<int> cancel(const common_options &common, const std::string &name, bool now);

struct logs_options {
  std::string name;
  int rank = -1;
  uint64_t attempt = 0;  // 0: the newest
  bool follow = false;
};
result<int> logs(const common_options &common, const logs_options &options);

// A job's name, or Slurm's number of it.
result<int> explain(const common_options &common, const std::string &job);
// Writes into the admin comment of jobs that wait for shards why they do, until it is ended.
result<int> watch(const common_options &common, uint32_t seconds, bool once);
// At the end of the batch script: the next attempt, or the end.
result<int> after(const std::string &folder, int code);
// The list of this node's GPUs that the prolog reads.
result<int> list_gpus();

}  // namespace thole::slurm
