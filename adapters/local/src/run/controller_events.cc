// What the ranks say, and what the controller remembers of it.
#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "run/controller.h"

namespace thole::local {
namespace {

constexpr std::size_t most_checkpoints = 64;
constexpr std::size_t most_result_bytes = 65536;
constexpr int64_t save_every_ns = 2 * second_ns;

uint64_t number_in(const json &object, const char *name) {
  const auto at = object.find(name);
  return at != object.end() && at->is_number_unsigned() ? at->get<uint64_t>() : 0;
}

}  // namespace

void controller::on_line(uint32_t rank, const std::string &line) {
  if (!options_.quiet) std::fprintf(stderr, "%u| %s\n", rank, utf8_or_replaced(line).c_str());
}

void controller::on_step(const rank_view &rank, uint64_t before) {
  const int64_t now = now_ns();
  const uint64_t newest = attempt_->view().newest_step();
  state_.newest_step = std::max(state_.newest_step, newest);
  state_.steps_run = steps_before_ + (newest > restored_step_ ? newest - restored_step_ : 0);
  if (rank.step > before) metrics_->on_step(newest, state_.steps_run);
  dirty_ = true;
  if (!first_step_seen_) note_recovered(now);
  first_step_seen_ = true;
}

// The first new train step after an incident: the job goes on.
void controller::note_recovered(int64_t now) {
  if (recovering_since_ns_ == 0) return;
  incident_state &i = state_.incidents.back();
  i.recovery_ns = now - recovering_since_ns_;
  i.restored_step = restored_step_;
  recovering_since_ns_ = 0;
  metrics_->on_recovered(i);
  say_good("goes on at step {}, {} after the incident was noticed", restored_step_ + 1, duration_text(i.recovery_ns));
}

void controller::on_restored(const rank_view &rank, uint64_t step) {
  restored_step_ = step;
  if (rank.rank == attempt_->view().ranks.front().rank) say("restored the checkpoint of step {}", step);
}

void controller::on_checkpoint(const rank_view &, const json &what) {
  const uint64_t step = number_in(what, "step");
  auto row = std::find_if(state_.checkpoints.rbegin(), state_.checkpoints.rend(),
                          [&](const checkpoint_state &c) { return c.step == step && c.attempt == state_.attempt; });
  if (row == state_.checkpoints.rend()) {
    if (state_.checkpoints.size() == most_checkpoints) state_.checkpoints.erase(state_.checkpoints.begin());
    state_.checkpoints.push_back({});
    row = state_.checkpoints.rbegin();
    row->step = step;
    row->attempt = state_.attempt;
  }
  ++row->parts;
  row->bytes += number_in(what, "bytes");
  row->file_bytes += number_in(what, "file_bytes");
  if (const auto seconds = what.find("seconds"); seconds != what.end() && seconds->is_number())
    row->seconds = std::max(row->seconds, seconds->get<double>());
  if (const auto committed = what.find("committed"); committed != what.end() && committed->is_boolean())
    row->committed |= committed->get<bool>();
  dirty_ = true;
  if (row->committed && row->parts == attempt_->view().ranks.size()) commit(*row);
}

// All parts have reported. (If a rank dies before it can, the checkpoint is committed all the same, and only not
// counted.)
void controller::commit(checkpoint_state &row) {
  ++state_.checkpoints_committed;
  metrics_->on_checkpoint(row);
  const double rate = row.seconds > 0 ? static_cast<double>(row.bytes) / row.seconds / 1e6 : 0;
  say("checkpoint of step {}: {} in {} parts, {:.1f} MB/s", row.step, bytes_text(row.bytes), row.parts, rate);
  if (!checkpoints_ || spec_.keep == 0) return;
  if (auto removed = checkpoints_->retire(spec_.keep); !removed)
    warn("old checkpoints cannot be removed: {}", removed.error().message);
}

void controller::on_result(const rank_view &, const json &what) {
  if (what.dump().size() > most_result_bytes)
    return warn("a result of more than {} bytes was not kept", most_result_bytes);
  for (const auto &[name, value] : what.items())
    if (!state_.result.contains(name)) state_.result[name] = value;
  dirty_ = true;
}

void controller::save_sometimes(int64_t now) {
  if (!dirty_ || now - saved_ns_ < save_every_ns) return;
  state_.run_ns = run_before_ns_ + now - begun_ns_;
  saved_ns_ = now;
  dirty_ = false;
  if (auto saved = save(layout_, state_); !saved) warn("{}", saved.error().message);
}

}  // namespace thole::local
