// queue.h: what Slurm says, through its own commands.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "problem.h"

namespace thole::slurm {

using fields = std::map<std::string, std::string>;  // of one line of scontrol

// All of `scontrol -o show`: "job", "job 12", "node". Empty if there is none.
result<std::vector<fields>> show(const std::vector<std::string> &what);
bool is_over(const std::string &job_state);

// Which GPU has how many shards left.
struct hole {
  std::string node;
  uint32_t gpu = 0;
  uint64_t shards = 0;
};
struct usage {
  std::vector<hole> holes;  // of each GPU of each node that takes jobs
  uint64_t largest_total = 0;
};
result<usage> read_usage();

// Why a job that waits does: a reason and a sentence. Empty if it wants no shards.
struct wait {
  std::string reason;
  std::string sentence;
  bool fits = false;
};
wait explain_wait(const fields &job, const usage &u, uint64_t shard_mib);

}  // namespace thole::slurm
