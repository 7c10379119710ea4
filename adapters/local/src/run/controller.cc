#include "run/controller.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "process/launch.h"
#include "process/proc.h"

namespace thole::local {
namespace {

constexpr int64_t tick_ms = 100;
constexpr int64_t settle_ns = 2 * second_ns;             // for a failed program to end after it has said so
constexpr int64_t dying_ns = 10 * second_ns;             // for a large process to be taken down, on a busy machine
constexpr int64_t incident_patience_ns = second_ns / 4;  // between SIGTERM and SIGKILL for who is left over
constexpr int64_t default_grace_ns = 30 * second_ns;
constexpr std::size_t incidents_with_traceback = 16;  // the newest: the state of a job with many stays small
constexpr std::size_t most_old_message = 200;

std::string search_path(const role_spec &role) {
  const auto own = role.environment.find("PATH");
  if (own != role.environment.end()) return own->second;
  const char *path = ::getenv("PATH");
  return path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
}

}  // namespace

result<std::vector<std::string>> find_programs(const job_spec &spec, const std::string &folder) {
  std::vector<std::string> programs;
  for (const role_spec &role : spec.roles) {
    const std::string from = role.workdir.empty()     ? folder
                             : role.workdir[0] == '/' ? role.workdir
                                                      : folder + "/" + role.workdir;
    if (role.command.empty()) return fail(reason::CommandNotFound, "role {} has no command", role.name);
    THOLE_LET(std::string program, find_program(role.command[0], search_path(role), from));
    programs.push_back(std::move(program));
  }
  return programs;
}

controller::controller(const layout &l, job_state state, job_spec spec, std::string job_text,
                       std::unique_ptr<library> core, run_options options)
    : layout_(l),
      state_(std::move(state)),
      spec_(std::move(spec)),
      job_text_(std::move(job_text)),
      core_(std::move(core)),
      options_(std::move(options)) {}

result<> controller::set_up() {
  begun_ns_ = now_ns();
  run_before_ns_ = state_.run_ns;
  steps_before_ = state_.steps_run;
  state_.controller = name_of(::getpid());
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  THOLE_LET(loop_, event_loop::create());
  loop_->watch_signals([this](int s) { on_signal(s); });
  THOLE_LET(programs_, find_programs(spec_, state_.folder));
  if (spec_.has_checkpoint) {
    const missing_key without = state_.attempt == 0 ? missing_key::make : missing_key::fail;
    THOLE_LET(store_place place, bind_store(layout_, *core_, job_text_, spec_, state_.folder, state_.run, without));
    state_.store = place.folder;
    state_.key_file = place.key_file;
    checkpoints_.emplace(*core_, std::move(place));
  }
  metrics_ = std::make_unique<job_metrics>(*core_, layout_.job(spec_.name), state_);
  if (options_.metrics_port) {
    auto page = metrics_page::open(*loop_, *options_.metrics_port, [this] { return metrics_->render(state_); });
    if (page) {
      page_ = std::move(*page);
      say("metrics: http://127.0.0.1:{}/metrics", page_->port());
    } else if (*options_.metrics_port != 0) {
      return tl::unexpected(page.error());
    } else {
      warn("no metrics page: {}", page.error().message);
    }
  }
  return {};
}

// Records and environments of all members, out of what the ledger has confirmed.
result<> controller::describe_members(attempt_plan &plan) {
  THOLE_LET(const auto *partition, core_->partition());
  thole_backend weakest = THOLE_BACKEND_EXCLUSIVE;
  for (const member_state &m : state_.members) {
    std::vector<thole_grant> grants;
    for (const grant_state &g : m.grants) {
      auto grant = sized<thole_grant>();
      grant.uuid = borrow(g.uuid);
      grant.kind = g.kind == "whole" ? THOLE_KIND_WHOLE : g.kind == "mig" ? THOLE_KIND_MIG : THOLE_KIND_VGPU;
      grant.share_milli = g.share_milli;
      grant.memory_mib = g.memory_mib;
      grant.mig_profile = borrow(g.mig_profile);
      grant.mig = {g.mig_start, g.mig_size};
      grant.flags = g.simulated ? THOLE_GPU_SIMULATED : 0;
      grants.push_back(grant);
    }
    auto placement = sized<thole_placement>();
    placement.role = m.role, placement.member = m.member, placement.first_rank = m.first_rank,
    placement.ranks = m.ranks;
    placement.node = borrow(m.node);
    placement.grants = borrow_list(grants);
    auto member = sized<thole_member>();
    member.gang = state_.gang, member.attempt = plan.number, member.generation = plan.number;
    member.role = borrow(m.role_name);
    member.placement = &placement;
    answer_room room;
    auto assignment = sized<thole_assignment>();
    THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *s) {
      return partition->assign(core_->core(), &member, &assignment, b, s);
    }));
    plan.records.push_back(own(assignment.record));
    weakest = std::min(weakest, assignment.backend);
    auto &environment = plan.environments.emplace_back();
    each<thole_str>(assignment.environment, [&](thole_str pair) { environment.push_back(own(pair)); });
  }
  state_.backend = weakest == THOLE_BACKEND_EXCLUSIVE ? "exclusive" : state_.simulated ? "none (simulated)" : "none";
  return {};
}

result<> controller::begin_attempt() {
  ++state_.attempt;
  attempt_plan plan;
  plan.number = state_.attempt;
  plan.folder = layout_.attempt(spec_.name, state_.attempt);
  plan.runtime = state_.runtime;
  plan.job = &spec_;
  plan.state = &state_;
  plan.store = checkpoints_ ? &checkpoints_->place() : nullptr;
  plan.programs = programs_;
  restored_step_ = 0;
  if (checkpoints_) {
    // From here on no older attempt can publish anything.
    THOLE_LET(const auto newest, checkpoints_->fence(state_.attempt));
    restored_step_ = newest.any ? newest.step : 0;
  }
  if (recovering_since_ns_ != 0) state_.incidents.back().restored_step = restored_step_;
  THOLE_TRY(describe_members(plan));
  attempt_ = std::make_unique<attempt>(*loop_, std::move(plan), *this, options_.injections);
  first_step_seen_ = false;
  THOLE_TRY(attempt_->prepare());
  state_.now = phase::running;
  state_.processes.clear();
  for (const member_process &m : attempt_->view().members) state_.processes.push_back(m.process);
  // On record before their programs run: whoever comes after us finds them.
  THOLE_TRY(save(layout_, state_));
  THOLE_TRY(attempt_->start());
  forget_old_attempts(layout_, spec_.name, state_.attempt, options_.keep.attempts);
  say("attempt {}: {} ranks in {} processes started{}", state_.attempt, attempt_->view().ranks.size(),
      attempt_->view().members.size(),
      restored_step_ > 0 ? fmt::format("; the newest checkpoint is of step {}", restored_step_) : std::string());
  return {};
}

void controller::on_signal(int signal) {
  if (signal == SIGCHLD) {
    if (attempt_) attempt_->reap();
    return;
  }
  ++stop_signals_;
  if (stop_reason_.empty()) stop_reason_ = signal == SIGINT ? "interrupt" : signal == SIGHUP ? "hangup" : "cancel";
}

void controller::ask_to_stop(const std::string &why) {
  const int64_t grace = spec_.grace_ns > 0 ? spec_.grace_ns : default_grace_ns;
  stop_deadline_ns_ = now_ns() + grace;
  state_.now = phase::stopping;
  say("stopping ({}): the ranks have {} for a last checkpoint", why, duration_text(grace));
  attempt_->ask_to_stop(why, in_seconds(grace));
}

// Until the attempt is over, one way or another. Its processes may still live then.
controller::ending controller::watch() {
  incident_.reset();
  int64_t failing_since = 0;
  for (;;) {
    loop_->wait(tick_ms);
    const int64_t now = now_ns();
    attempt_->reap();
    attempt_->look(now);
    if (stop_signals_ >= 2) return ending::killed;
    if (!stop_reason_.empty() && stop_deadline_ns_ == 0) ask_to_stop(stop_reason_);
    if (stop_deadline_ns_ != 0 && now > stop_deadline_ns_) return ending::killed;
    if (spec_.time_limit_ns > 0 && stop_reason_.empty() && run_before_ns_ + now - begun_ns_ > spec_.time_limit_ns)
      stop_reason_ = "time limit";
    if (attempt_->all_ended()) attempt_->drain();
    bool settled = false;
    if (find_failure(attempt_->view(), false, &settled) && stop_deadline_ns_ == 0) {
      attempt_->drain();  // what it said with its last breath
      incident_ = find_failure(attempt_->view(), attempt_->memory_was_out(), &settled);
      if (failing_since == 0) failing_since = now;
      if (settled || now - failing_since > (is_dying(attempt_->view()) ? dying_ns : settle_ns)) return ending::incident;
    }
    if (attempt_->all_ended()) return stop_deadline_ns_ != 0 ? ending::stopped : ending::done;
    if (stop_deadline_ns_ == 0)
      if (auto hang = find_hang(attempt_->view(), {spec_.start_timeout_ns, spec_.hang_timeout_ns}, now)) {
        incident_ = std::move(hang);
        return ending::incident;
      }
    save_sometimes(now);
  }
}

void controller::finish_attempt(int64_t patience_ns) {
  attempt_->end(patience_ns);
  const uint64_t newest = attempt_->view().newest_step();
  state_.newest_step = std::max(state_.newest_step, newest);
  steps_before_ = state_.steps_run = steps_before_ + (newest > restored_step_ ? newest - restored_step_ : 0);
  state_.processes.clear();
  metrics_->collect(attempt_->view(), layout_.attempt(spec_.name, state_.attempt));
}

result<> controller::decide(incident_state &incident, bool *restart) {
  THOLE_LET(const auto *recovery, core_->recovery());
  std::vector<thole_incident> history;
  for (const incident_state &i : state_.incidents) {
    auto h = sized<thole_incident>();
    h.kind = i.kind == "signal"   ? THOLE_INCIDENT_SIGNAL
             : i.kind == "hang"   ? THOLE_INCIDENT_HANG
             : i.kind == "start"  ? THOLE_INCIDENT_START
             : i.kind == "memory" ? THOLE_INCIDENT_MEMORY
             : i.kind == "early"  ? THOLE_INCIDENT_EARLY
                                  : THOLE_INCIDENT_EXIT;
    h.rank = i.rank, h.code = i.code, h.attempt = i.attempt, h.step = i.safe_step, h.cause = i.cause;
    history.push_back(h);
  }
  auto policy = sized<thole_recovery_policy>();
  policy.max_incidents = spec_.max_incidents;
  policy.max_without_progress = spec_.max_without_progress;
  policy.max_same_cause = spec_.max_same_cause;
  policy.min_delay_ns = spec_.min_delay_ns;
  policy.max_delay_ns = spec_.max_delay_ns;
  const thole_list list = borrow_list(history);
  answer_room room;
  auto decision = sized<thole_decision>();
  THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *s) {
    return recovery->decide(core_->core(), &list, &policy, &decision, b, s);
  }));
  incident.decision = own(decision.reason);
  *restart = decision.action == THOLE_RECOVERY_RESTART;
  if (!*restart) {
    finish(phase::failed, exit_code_of(incident), incident.decision,
           own(decision.message) + "\n" + describe(incident) + tail_of(incident));
    return {};
  }
  state_.now = phase::recovering;
  THOLE_TRY(save(layout_, state_));
  say("{}", own(decision.message));
  *restart = wait_for_restart(decision.delay_ns);
  return {};
}

// The answer says whether the job goes on.
result<bool> controller::after_incident() {
  const int64_t now = now_ns();
  incident_state &i = state_.incidents.emplace_back(std::move(*incident_));
  if (const int64_t injected = attempt_->injected_at(i.rank); injected != 0 && i.kind != "hang")
    i.detection_ns = now - injected;
  warn("{}{}", describe(i), i.detection_ns < 0 ? "" : fmt::format("; noticed after {}", duration_text(i.detection_ns)));
  recovering_since_ns_ = now;
  finish_attempt(incident_patience_ns);
  i.safe_step = restored_step_;
  if (checkpoints_) {
    if (auto newest = checkpoints_->newest_committed()) i.safe_step = newest->any ? newest->step : 0;
    else warn("the store cannot be read: {}", newest.error().message);
  }
  for (const checkpoint_state &c : state_.checkpoints)
    if (!checkpoints_ && c.committed) i.safe_step = std::max(i.safe_step, c.step);
  metrics_->on_incident(i);
  if (state_.incidents.size() > incidents_with_traceback) {
    incident_state &old = state_.incidents[state_.incidents.size() - 1 - incidents_with_traceback];
    old.traceback.clear();
    if (old.message.size() > most_old_message) old.message.resize(most_old_message);
  }
  bool restart = false;
  THOLE_TRY(decide(i, &restart));
  return restart;
}

bool controller::wait_for_restart(int64_t delay_ns) {
  for (const int64_t until = now_ns() + delay_ns; now_ns() < until && stop_reason_.empty();)
    loop_->wait(static_cast<int>(std::min<int64_t>(tick_ms, (until - now_ns()) / millisecond_ns + 1)));
  if (stop_reason_.empty()) return true;
  finish(phase::stopped, exit_stopped, "Stopped",
         fmt::format("stopped ({}) while it waited for its restart", stop_reason_));
  return false;
}

result<job_state> controller::run() {
  auto went = [this]() -> result<> {
    THOLE_TRY(set_up());
    for (bool again = true; again;) {
      if (auto begun = begin_attempt(); !begun) {
        if (attempt_) finish_attempt(0);
        if (begun.error().reason != "CommandNotFound" && begun.error().reason != "CommandNotExecutable") return begun;
        finish(phase::failed, begun.error().reason == "CommandNotFound" ? 127 : 126, begun.error().reason,
               begun.error().message);
        return {};
      }
      again = false;
      switch (watch()) {
        case ending::incident: {
          THOLE_LET(again, after_incident());
          break;
        }
        case ending::done:
          finish_attempt(0);
          finish(phase::done, 0, "Done", "done");
          break;
        case ending::stopped:
          finish_attempt(0);
          finish(phase::stopped, stop_reason_ == "time limit" ? 124 : exit_stopped,
                 stop_reason_ == "time limit" ? "TimeLimit" : "Stopped",
                 fmt::format("stopped ({}): `thole resume {}` goes on", stop_reason_, spec_.name));
          break;
        case ending::killed:
          finish_attempt(0);
          finish(phase::stopped,
                 stop_reason_ == "time limit" ? 124
                 : stop_signals_ >= 2         ? 130
                                              : 137,
                 stop_reason_ == "time limit" ? "TimeLimit" : "Killed",
                 stop_signals_ >= 2 ? "killed, since it was asked twice"
                                    : fmt::format("stopped ({}), and killed after its grace time", stop_reason_));
          break;
      }
    }
    return {};
  }();
  if (attempt_ && !went) attempt_->end(0);
  attempt_.reset();
  auto closed = close();
  THOLE_TRY(went);
  THOLE_TRY(closed);
  return state_;
}

void controller::finish(phase p, int exit_code, std::string why, std::string message) {
  state_.now = p;
  state_.exit_code = exit_code;
  state_.reason = std::move(why);
  state_.message = std::move(message);
}

// Gives back what the job holds. The last state is written first: who finds it knows that the gang is nobody's any
// more.
result<> controller::close() {
  const int64_t now = now_ns();
  state_.run_ns = run_before_ns_ + now - begun_ns_;
  state_.ended_wall_ns = wall_ns();
  state_.controller = {};
  page_.reset();
  result<> saved;
  if (is_final(state_.now)) saved = save(layout_, state_);
  if (metrics_) {
    auto written = replace_file(layout_.job(spec_.name) + "/metrics.txt", metrics_->render(state_));
    if (!written) warn("{}", written.error().message);
  }
  remove_tree(state_.runtime);
  result<> released;
  if (auto gang = core_->gang())
    released = call([&](thole_status *s) { return (*gang)->release(core_->core(), state_.gang, s); });
  THOLE_TRY(saved);
  return released;
}

std::string controller::tail_of(const incident_state &i) const {
  std::string text;
  for (const std::string &line : i.traceback) text += "\n  " + utf8_or_replaced(line);
  return text;
}

int controller::exit_code_of(const incident_state &i) const {
  if (i.kind == "hang") return 125;
  if (i.kind == "signal" || (i.kind == "memory" && i.code == SIGKILL)) return 128 + i.code;
  return i.code > 0 && i.code < 256 ? i.code : 1;
}

}  // namespace thole::local
