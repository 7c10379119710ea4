#include "run/job_metrics.h"

#include <filesystem>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

namespace thole::local {
namespace {

const std::vector<double> recovery_bounds = {0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};
const std::vector<double> checkpoint_bounds = {0.001, 0.01, 0.1, 0.5, 1, 5, 10, 60, 300};

}  // namespace

job_metrics::job_metrics(const library &core, const std::string &job_folder, const job_state &state)
    : core_(core), job_(state.name), job_folder_(job_folder), steps_counted_(state.steps_run) {}

thole_cell *job_metrics::cell(const family &f, const std::vector<std::string> &values) {
  const std::string key = std::string(f.name) + "\n" + join(values, "\n");
  if (const auto known = cells_.find(key); known != cells_.end()) return known->second;
  const auto *api = core_.root().metrics;
  if (api == nullptr) return nullptr;
  std::vector<thole_str> labels;
  std::vector<thole_str> own_values;
  for (const std::string &l : f.labels) labels.push_back(borrow(l));
  for (const std::string &v : values) own_values.push_back(borrow(v));
  auto definition = sized<thole_family>();
  definition.name = borrow(f.name), definition.help = borrow(f.help), definition.unit = borrow(f.unit);
  definition.kind = f.kind;
  definition.labels = borrow_list(labels);
  definition.bounds = f.bounds.empty() ? nullptr : f.bounds.data();
  definition.bound_count = f.bounds.size();
  uint32_t number = 0;
  thole_cell *c = nullptr;
  const thole_list list = borrow_list(own_values);
  auto made = call([&](thole_status *s) { return api->define(core_.core(), &definition, &number, s); });
  if (made) made = call([&](thole_status *s) { return api->bind(core_.core(), number, &list, &c, s); });
  if (!made && !warned_) {
    warn("metric {}: {}", f.name, made.error().message);
    warned_ = true;
  }
  return cells_[key] = made ? c : nullptr;
}

void job_metrics::add(const family &f, const std::vector<std::string> &values, double amount) {
  if (thole_cell *c = cell(f, values)) thole_counter_add(c, amount);
}
void job_metrics::set(const family &f, const std::vector<std::string> &values, double value) {
  if (thole_cell *c = cell(f, values)) thole_gauge_set(c, value);
}
void job_metrics::observe(const family &f, const std::vector<std::string> &values, double value) {
  if (thole_cell *c = cell(f, values)) thole_histogram_observe(c, value);
}

void job_metrics::on_step(uint64_t step, uint64_t steps_run) {
  set({"thole_job_step", "Newest train step that a rank has done.", "", THOLE_METRIC_GAUGE, {"job"}}, {job_},
      static_cast<double>(step));
  if (steps_run <= steps_counted_) return;
  add({"thole_job_steps_run", "Train steps run, over all attempts.", "", THOLE_METRIC_COUNTER, {"job"}}, {job_},
      static_cast<double>(steps_run - steps_counted_));
  steps_counted_ = steps_run;
}

void job_metrics::on_checkpoint(const checkpoint_state &c) {
  add({"thole_checkpoints_committed", "Checkpoints that all ranks have sealed.", "", THOLE_METRIC_COUNTER, {"job"}},
      {job_}, 1);
  add({"thole_checkpoint_bytes",
       "Bytes of the items of committed checkpoints.",
       "bytes",
       THOLE_METRIC_COUNTER,
       {"job"}},
      {job_}, static_cast<double>(c.bytes));
  set({"thole_checkpoint_step", "Train step of the newest checkpoint.", "", THOLE_METRIC_GAUGE, {"job"}}, {job_},
      static_cast<double>(c.step));
  observe({"thole_checkpoint_seconds",
           "Time of the slowest part of a checkpoint.",
           "seconds",
           THOLE_METRIC_HISTOGRAM,
           {"job"},
           checkpoint_bounds},
          {job_}, c.seconds);
}

void job_metrics::on_incident(const incident_state &i) {
  add({"thole_incidents", "Incidents, by what happened to the first rank.", "", THOLE_METRIC_COUNTER, {"job", "kind"}},
      {job_, i.kind}, 1);
  if (i.detection_ns >= 0)
    observe({"thole_detection_seconds",
             "From an incident to its being noticed, where both are known.",
             "seconds",
             THOLE_METRIC_HISTOGRAM,
             {"job"},
             recovery_bounds},
            {job_}, in_seconds(i.detection_ns));
}

void job_metrics::on_recovered(const incident_state &i) {
  observe({"thole_recovery_seconds",
           "From an incident's being noticed to the next new train step.",
           "seconds",
           THOLE_METRIC_HISTOGRAM,
           {"job"},
           recovery_bounds},
          {job_}, in_seconds(i.recovery_ns));
}

void job_metrics::collect_file(const std::string &file) {
  if (core_.root().metrics == nullptr || !exists(file)) return;
  auto read = call([&](thole_status *s) { return core_.root().metrics->collect(core_.core(), borrow(file), s); });
  if (!read && !warned_) {
    warn("{}", read.error().message);
    warned_ = true;
  }
}

void job_metrics::collect(const attempt_view &attempt, const std::string &folder) {
  for (const rank_view &r : attempt.ranks) collect_file(folder + "/rank-" + std::to_string(r.rank) + ".metrics");
}

std::string job_metrics::render(const job_state &state) {
  const auto *api = core_.root().metrics;
  if (api == nullptr) return "# EOF\n";
  set({"thole_job_info",
       "A job, and what holds its caps.",
       "",
       THOLE_METRIC_GAUGE,
       {"job", "run", "backend", "simulated"}},
      {job_, id_text(state.run), state.backend, state.simulated ? "true" : "false"}, 1);
  set({"thole_job_attempt", "Number of the attempt.", "", THOLE_METRIC_GAUGE, {"job"}}, {job_},
      static_cast<double>(state.attempt));
  set({"thole_job_run_seconds", "Time for which the job has been run.", "seconds", THOLE_METRIC_GAUGE, {"job"}}, {job_},
      in_seconds(state.run_ns));
  uint32_t ranks = 0;
  for (const member_state &m : state.members) ranks += m.ranks;
  set({"thole_gang_members", "Members of the job's gang.", "", THOLE_METRIC_GAUGE, {"job"}}, {job_},
      static_cast<double>(state.members.size()));
  set({"thole_gang_ranks", "Ranks of the job's gang.", "", THOLE_METRIC_GAUGE, {"job"}}, {job_}, ranks);
  set({"thole_ranks_alive", "Processes of the job that run now.", "", THOLE_METRIC_GAUGE, {"job"}}, {job_},
      static_cast<double>(state.processes.size()));
  for (const member_state &m : state.members)
    for (const grant_state &g : m.grants) {
      const std::vector<std::string> labels = {job_, std::to_string(m.first_rank), g.uuid, g.kind, state.backend};
      set({"thole_device_memory_bytes",
           "Memory cap of a member's device.",
           "bytes",
           THOLE_METRIC_GAUGE,
           {"job", "rank", "uuid", "kind", "backend"}},
          labels, static_cast<double>(g.memory_mib) * 1048576.0);
      set({"thole_device_share_ratio",
           "Share of the GPU's compute of a member's device.",
           "ratio",
           THOLE_METRIC_GAUGE,
           {"job", "rank", "uuid", "kind", "backend"}},
          labels, g.share_milli / 1000.0);
    }
  // Also those of earlier attempts and controllers: what was counted does not vanish with who counted it.
  std::error_code bad;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(job_folder_, bad))
    if (entry.path().extension() == ".metrics") collect_file(entry.path().string());
  answer_room room;
  thole_str text{};
  auto rendered =
      call_with_room(room, [&](thole_buffer *b, thole_status *s) { return api->render(core_.core(), &text, b, s); });
  return rendered ? own(text) : "# EOF\n";
}

}  // namespace thole::local
