// thole status, cancel.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/options.h"
#include "process/proc.h"
#include "run/start.h"
#include "run/summary.h"
#include "state/sweep.h"

namespace thole::local {
namespace {

constexpr int64_t cancel_patience_ns = 3600 * second_ns;

result<int> status(const common_options &common, const std::string &name) {
  THOLE_LET(const layout l, layout::open(common.state));
  if (!name.empty()) {
    THOLE_LET(const job_state s, load(l, name));
    const bool running = job_is_running(l, name);
    if (common.as_json) print_json(summary_json(l, s, running));
    else print(summary_text(l, s, running, colour_on(STDOUT_FILENO)));
    return exit_ok;
  }
  json jobs = json::array();
  std::string text;
  for (const std::string &job : l.job_names()) {
    auto s = load(l, job);
    if (!s) continue;
    const bool running = job_is_running(l, job);
    jobs.push_back(summary_json(l, *s, running));
    text += fmt::format("{:<24} {:<12} attempt {:<3} step {:<8} {} incidents  {}\n", job,
                        running || is_final(s->now) ? phase_text(s->now) : "interrupted", s->attempt, s->newest_step,
                        s->incidents.size(), s->simulated ? "simulated" : "");
  }
  if (common.as_json) print_json({{"jobs", std::move(jobs)}});
  else print(text.empty() ? "no jobs\n" : text);
  return exit_ok;
}

// Asks the controller once, or with `now` twice, and waits until it lets go of the job.
result<> stop_controller(const std::string &name, const process_name &controller, bool now) {
  const unique_fd fd(static_cast<int>(::syscall(SYS_pidfd_open, controller.pid, 0)));
  if (!fd || !still_lives(controller)) return {};
  ::syscall(SYS_pidfd_send_signal, fd.get(), SIGTERM, nullptr, 0);
  // Two signals of one number that are pending at once are one, so the second is another.
  if (now) ::syscall(SYS_pidfd_send_signal, fd.get(), SIGINT, nullptr, 0);
  pollfd wait{fd.get(), POLLIN, 0};
  if (::poll(&wait, 1, static_cast<int>(cancel_patience_ns / millisecond_ns)) <= 0)
    return fail(reason::SystemCallFailed, "the controller of {} (process {}) does not end: `thole cancel --now {}`",
                name, controller.pid, name);
  return {};
}

// A job whose controller was killed: what it left is ended, and what it held is given back.
result<> end_interrupted(const layout &l, job_state s) {
  end_orphans(s);
  THOLE_LET(const auto core, library::open({l.ledger(s.ledger), {}}));
  if (!s.ledger.empty())
    if (auto gang = core->gang())
      THOLE_TRY(call([&](thole_status *status) { return (*gang)->release(core->core(), s.gang, status); }));
  s.now = phase::stopped;
  s.exit_code = exit_stopped;
  s.reason = "Stopped";
  s.message = "cancelled after its controller was killed";
  s.ended_wall_ns = wall_ns();
  s.controller = {};
  s.processes.clear();
  return save(l, s);
}

result<int> cancel(const common_options &common, const std::string &name, bool now) {
  THOLE_LET(const layout l, layout::open(common.state));
  THOLE_LET(job_state s, load(l, name));
  // A controller writes its name down a moment after it has taken the lock.
  for (int tries = 0; tries < 100 && job_is_running(l, name) && s.controller.pid == 0; ++tries) {
    ::poll(nullptr, 0, 20);
    THOLE_LET(s, load(l, name));
  }
  if (job_is_running(l, name)) {
    THOLE_TRY(stop_controller(name, s.controller, now));
  } else if (!is_final(s.now)) {
    THOLE_LET(const file_lock lock, lock_job(l, name));
    THOLE_TRY(end_interrupted(l, s));
  }
  THOLE_LET(s, load(l, name));
  if (common.as_json) print_json(summary_json(l, s, false));
  else print(fmt::format("{}: {}\n", name, phase_text(s.now)));
  return exit_ok;
}

}  // namespace

void add_status(CLI::App &app, const common_options &, command *chosen) {
  const auto name = std::make_shared<std::string>();
  CLI::App *c = app.add_subcommand("status", "Lists the jobs, or tells all of one");
  c->add_option("name", *name, "A job's name");
  c->footer("Examples:\n  thole status\n  thole status digits\n  thole --json status digits | jq .steps");
  c->callback([=] { *chosen = [=](const common_options &common) { return status(common, *name); }; });
}

void add_cancel(CLI::App &app, const common_options &, command *chosen) {
  const auto name = std::make_shared<std::string>();
  const auto now = std::make_shared<bool>(false);
  CLI::App *c = app.add_subcommand("cancel", "Asks a job to save and stop, and waits for it");
  c->add_option("name", *name, "A job's name")->required();
  c->add_flag("--now", *now, "Kill it, without a last checkpoint");
  c->footer("Examples:\n  thole cancel digits\n  thole cancel --now digits");
  c->callback([=] { *chosen = [=](const common_options &common) { return cancel(common, *name, *now); }; });
}

}  // namespace thole::local
