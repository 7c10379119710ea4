// job.h: a TrainingJob as Slurm is to run it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core.h"

namespace thole::slurm {

struct training_job {
  std::string name;
  std::string folder;  // of the job file: relative paths begin there
  uint32_t members = 1;
  uint32_t ranks_per_member = 1;
  uint32_t gpus = 0;      // whole ones, of each member
  uint64_t vgpu_mib = 0;  // memory of each member's vGPU; 0: none
  uint32_t share_milli = 0;
  uint32_t cpus = 1;        // of each member, rounded up
  uint64_t memory_mib = 0;  // of each member
  std::vector<std::string> command;
  std::map<std::string, std::string> environment;
  std::string workdir;
  bool one_node = false;    // topology: all members on one
  uint64_t time_limit = 0;  // seconds; 0: none
  uint64_t grace = 30;      // seconds
  std::string queue;
  std::string account;
  bool has_checkpoint = false;
  std::string store;
  std::string key;
  uint64_t interval = 0;
  uint32_t keep = 0;
  uint32_t max_incidents = 0;
  uint32_t max_without_progress = 0;
  uint32_t max_same_cause = 0;
  std::vector<std::string> options;  // native ones
  std::vector<std::string> ignored;  // sentences about fields that have no effect here
};

result<training_job> read_job(const core &c, const std::string &path);

// How its members become nodes and tasks.
struct shape {
  uint32_t nodes = 0;  // 0: Slurm's choice
  uint32_t tasks_per_node = 0;
};
// `wanted` is --nodes; 0: as few as its vGPUs fit on, since the vGPUs of a node lie on one GPU.
result<shape> shape_of(const training_job &job, uint32_t wanted, uint64_t shard_mib, uint64_t largest_mib);

}  // namespace thole::slurm
