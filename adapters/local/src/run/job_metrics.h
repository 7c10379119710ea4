// run/job_metrics.h: what a person wants to see of a running job, as counters, gauges and histograms.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/library.h"
#include "run/ranks.h"
#include "state/job_state.h"

namespace thole::local {

// docs/reference/metrics.md lists the families. Where the build has no metrics service, nothing is counted and the text
// is empty but valid.
class job_metrics {
 public:
  job_metrics(const library &core, const std::string &job_folder, const job_state &state);

  // The newest step, and all that were run over all attempts.
  void on_step(uint64_t step, uint64_t steps_run);
  void on_checkpoint(const checkpoint_state &c);
  void on_incident(const incident_state &i);
  void on_recovered(const incident_state &i);
  // Reads what the ranks of an attempt have counted.
  void collect(const attempt_view &attempt, const std::string &folder);
  // Brings the gauges up to date, and prints all.
  std::string render(const job_state &state);

 private:
  struct family {
    const char *name;
    const char *help;
    const char *unit;
    thole_metric_kind kind;
    std::vector<std::string> labels;
    std::vector<double> bounds{};
  };
  thole_cell *cell(const family &f, const std::vector<std::string> &values);
  void add(const family &f, const std::vector<std::string> &values, double amount);
  void set(const family &f, const std::vector<std::string> &values, double value);
  void observe(const family &f, const std::vector<std::string> &values, double value);
  void collect_file(const std::string &file);

  const library &core_;
  std::string job_;
  std::string job_folder_;
  std::map<std::string, thole_cell *> cells_;
  uint64_t steps_counted_;  // by this controller and those before it
  bool warned_ = false;
};

}  // namespace thole::local
