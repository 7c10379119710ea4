// run/controller.h: the controller of one job: attempt after attempt, until it is done or the recovery service says
// stop.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoints.h"
#include "core/ledger.h"
#include "run/attempt.h"
#include "run/job_metrics.h"
#include "run/metrics_page.h"
#include "state/retention.h"

namespace thole::local {

struct run_options {
  std::vector<injection> injections;
  bool quiet = false;
  std::optional<uint16_t> metrics_port = 0;  // 0: any free one; none: no page
  retention keep{};
};

class controller final : public attempt_listener {
 public:
  // The job is locked, placed and written down by the caller.
  controller(const layout &l, job_state state, job_spec spec, std::string job_text, std::unique_ptr<library> core,
             run_options options);

  // Runs the job to its end, which is in the state. An error is one of this machine (state cannot be written, ...):
  // then nothing of the job lives any more either, and its gang is given back.
  result<job_state> run();

 private:
  enum class ending { done, incident, stopped, killed };
  result<> set_up();
  result<> begin_attempt();
  result<> describe_members(attempt_plan &plan);
  ending watch();
  void finish_attempt(int64_t patience_ns);
  result<bool> after_incident();
  result<> decide(incident_state &incident, bool *restart);
  bool wait_for_restart(int64_t delay_ns);
  void finish(phase p, int exit_code, std::string why, std::string message);
  result<> close();

  void on_signal(int signal);
  void ask_to_stop(const std::string &why);
  void on_line(uint32_t rank, const std::string &line) override;
  void on_step(const rank_view &rank, uint64_t before) override;
  void on_checkpoint(const rank_view &rank, const json &what) override;
  void on_restored(const rank_view &rank, uint64_t step) override;
  void on_result(const rank_view &rank, const json &what) override;
  void commit(checkpoint_state &row);
  void note_recovered(int64_t now);
  void save_sometimes(int64_t now);
  std::string tail_of(const incident_state &i) const;
  int exit_code_of(const incident_state &i) const;

  const layout &layout_;
  job_state state_;
  job_spec spec_;
  std::string job_text_;
  std::unique_ptr<library> core_;
  run_options options_;
  std::unique_ptr<event_loop> loop_;
  std::optional<checkpoints> checkpoints_;
  std::unique_ptr<job_metrics> metrics_;
  std::unique_ptr<metrics_page> page_;
  std::vector<std::string> programs_;
  std::unique_ptr<attempt> attempt_;
  std::optional<incident_state> incident_;
  uint64_t restored_step_ = 0;
  uint64_t steps_before_ = 0;  // run by earlier attempts
  bool first_step_seen_ = false;
  int64_t recovering_since_ns_ = 0;
  int64_t begun_ns_ = 0;
  int64_t run_before_ns_ = 0;  // by earlier controllers
  int64_t saved_ns_ = 0;
  bool dirty_ = false;
  int stop_signals_ = 0;
  std::string stop_reason_;  // empty: nobody has asked
  int64_t stop_deadline_ns_ = 0;
};

// The program of each role. Fails: CommandNotFound, CommandNotExecutable.
result<std::vector<std::string>> find_programs(const job_spec &spec, const std::string &folder);

}  // namespace thole::local
