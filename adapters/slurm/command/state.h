// state.h: what thole-slurm remembers of a job: a folder below the state folder, which the job's nodes must see, too.
//
//     STATE/slurm/NAME/job.json           what was submitted
//     STATE/slurm/NAME/script             the batch script
//     STATE/slurm/NAME/log                what Slurm and the script said, all attempts
//     STATE/slurm/NAME/incidents.json     what has happened, for the recovery service
//     STATE/slurm/NAME/attempts/N/        rank-R.log, srun.log
//     STATE/keys/NAME.key                 keys that jobs name
//     STATE/stores/STORE/NAME-RUN/        checkpoints
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core.h"
#include "job.h"

namespace thole::slurm {

using json = nlohmann::ordered_json;

std::string state_folder(const std::string &given);

struct submitted {
  std::string name;
  std::string folder;  // STATE/slurm/NAME
  std::string id;      // Slurm's; empty before sbatch
  std::string run;
  std::string store;  // folder; empty: no checkpoints
  std::string key;    // path of the file
  uint64_t interval = 0;
  uint32_t keep = 0;
  uint64_t grace = 30;
  bool limited = false;  // by timeLimit
  uint32_t ranks_per_member = 1;
  uint32_t max_incidents = 0;
  uint32_t max_without_progress = 0;
  uint32_t max_same_cause = 0;

  run_store checkpoints() const { return {store, run, key}; }
};

submitted plan_submission(const training_job &job, const std::string &state, const std::string &store,
                          const std::string &key);
result<> save(const submitted &s);
result<submitted> load(const std::string &state, const std::string &name);
result<submitted> load_folder(const std::string &folder);
std::vector<std::string> all_names(const std::string &state);

// The batch script, complete with sbatch's options.
std::string batch_script(const training_job &job, const submitted &s, const shape &how);

}  // namespace thole::slurm
