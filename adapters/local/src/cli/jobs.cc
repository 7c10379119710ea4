// thole run, plan, explain, resume: what places jobs.
#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/options.h"
#include "run/start.h"
#include "run/summary.h"
#include "state/sweep.h"

namespace thole::local {
namespace {

struct job_arguments {
  std::string job;
  std::string pool;
  std::vector<std::string> injections;
  uint32_t metrics_port = 0;
  bool no_metrics = false;
  bool show = false;
  retention keep{};
};
using arguments = std::shared_ptr<job_arguments>;

void say_remarks(const job_files &files, const std::string &job, const std::string &pool) {
  for (const remark &r : files.job.remarks) say("{}", remark_text(r, job));
  for (const remark &r : files.pool_remarks) say("{}", remark_text(r, pool));
}

result<run_options> options_of(const common_options &common, const job_arguments &a) {
  run_options o;
  o.quiet = common.quiet;
  o.keep = a.keep;
  for (const std::string &text : a.injections) {
    THOLE_LET(injection i, parse_injection(text));
    o.injections.push_back(i);
  }
  if (a.no_metrics) o.metrics_port.reset();
  else o.metrics_port = static_cast<uint16_t>(a.metrics_port);
  return o;
}

int show_end(const common_options &common, const layout &l, const job_state &s) {
  if (common.as_json) print_json(summary_json(l, s, false));
  else print("\n" + summary_text(l, s, false, colour_on(STDOUT_FILENO)));
  return s.exit_code;
}

result<int> run(const common_options &common, const job_arguments &a) {
  THOLE_LET(run_options options, options_of(common, a));
  THOLE_LET(const layout l, layout::open(common.state));
  THOLE_LET(const auto reader, library::open({}));
  THOLE_LET(const job_files files, read_job_files(*reader, a.job, a.pool));
  say_remarks(files, a.job, a.pool);
  THOLE_LET(const job_state end, run_new_job(l, files, std::move(options)));
  return show_end(common, l, end);
}

result<int> resume(const common_options &common, const job_arguments &a) {
  THOLE_LET(run_options options, options_of(common, a));
  THOLE_LET(const layout l, layout::open(common.state));
  THOLE_LET(const job_state end, resume_job(l, a.job, std::move(options)));
  return show_end(common, l, end);
}

result<int> plan(const common_options &common, const job_arguments &a) {
  THOLE_LET(const layout l, layout::open(common.state));
  THOLE_LET(const auto reader, library::open({}));
  THOLE_LET(const job_files files, read_job_files(*reader, a.job, a.pool));
  std::string show;
  if (a.show) show = files.job.text;
  THOLE_LET(ledger g, ledger::open(l, files.pool, {}, files.spec.wants_devices()));
  THOLE_TRY(sweep(l, g));
  auto members = g.plan(files.job.text, random_id());
  if (!common.as_json && a.show) print(show);
  if (!common.as_json)
    for (const remark &r : files.job.remarks) print("# " + remark_text(r, a.job) + "\n");
  if (!members) return tl::unexpected(members.error());
  if (common.as_json) {
    json out = {{"job", files.spec.name},
                {"pool", files.pool.name},
                {"simulated", files.pool.simulated},
                {"members", json::array()},
                {"notes", remarks_json(files.job.remarks)}};
    for (const member_state &m : *members) out["members"].push_back(member_json(m));
    if (a.show) out["canonical"] = json::parse(files.job.text, nullptr, false);
    print_json(out);
    return exit_ok;
  }
  print(fmt::format("{} fits pool {}{}; nothing was started\n", files.spec.name, files.pool.name,
                    files.pool.simulated ? " (simulated)" : ""));
  for (const member_state &m : *members) print("  " + member_text(m) + "\n");
  return exit_ok;
}

result<int> explain(const common_options &common, const job_arguments &a) {
  THOLE_LET(const layout l, layout::open(common.state));
  THOLE_LET(const auto reader, library::open({}));
  THOLE_LET(const job_files files, read_job_files(*reader, a.job, a.pool));
  THOLE_LET(ledger g, ledger::open(l, files.pool, {}, files.spec.wants_devices()));
  THOLE_TRY(sweep(l, g));
  THOLE_LET(const explanation e, g.explain(files.job.text, random_id()));
  if (common.as_json) {
    print_json(e.details);
  } else if (e.fits) {
    print(fmt::format("{} fits pool {} now\n", files.spec.name, files.pool.name));
  } else {
    print(fmt::format("{} does not fit pool {}: {}\n  {}\n", files.spec.name, files.pool.name, e.reason, e.message));
    for (const json &b : e.details["blockers"])
      print(fmt::format("  {} on {} nodes\n", b["what"].get<std::string>(), b["nodes"].get<uint64_t>()));
  }
  return e.fits ? exit_ok : exit_unavailable;
}

void add_run_options(CLI::App *c, const arguments &a) {
  c->add_option(
      "--inject", a->injections,
      "A fault, to see what happens then: kill:rank=2,step=60, stop:rank=1,step=30, kill:rank=0,seal=2; repeatable");
  c->add_option("--metrics-port", a->metrics_port, "Port of 127.0.0.1 for the metrics [any free one]")
      ->check(CLI::Range(1, 65535));
  c->add_flag("--no-metrics-page", a->no_metrics, "No metrics page");
  const auto keep = [c](const char *name, uint32_t &number, const char *what) {
    c->add_option(name, number, what)->check(CLI::Range(1, 1000000))->capture_default_str();
  };
  keep("--keep-jobs", a->keep.jobs, "Ended jobs that are remembered");
  keep("--keep-attempts", a->keep.attempts, "Attempts of this job whose logs are kept");
  keep("--keep-runs", a->keep.runs,
       "Runs of this name whose checkpoints are kept, where the state folder is the store");
}

CLI::App *add_placing(CLI::App &app, const char *name, const char *what, const arguments &a) {
  CLI::App *c = app.add_subcommand(name, what);
  c->add_option("job", a->job, "TrainingJob file")->required();
  c->add_option("--pool", a->pool, "NodePool file [this machine's GPUs]");
  return c;
}

}  // namespace

void add_run(CLI::App &app, const common_options &, command *chosen) {
  const auto a = std::make_shared<job_arguments>();
  CLI::App *c = add_placing(app, "run", "Runs a job to its end, here, through whatever happens to it", a);
  add_run_options(c, a);
  c->footer(
      "Examples:\n"
      "  thole run job.yaml --pool pool.yaml\n"
      "  thole run job.yaml --pool pool.yaml --inject kill:rank=2,step=60\n"
      "  thole --json run job.yaml --pool pool.yaml > summary.json\n"
      "Ctrl-C once: a last checkpoint, and stop. Twice: kill. The exit code is the job's own.");
  c->callback([=] { *chosen = [=](const common_options &common) { return run(common, *a); }; });
}

void add_resume(CLI::App &app, const common_options &, command *chosen) {
  const auto a = std::make_shared<job_arguments>();
  CLI::App *c = app.add_subcommand("resume", "Goes on with a job that was stopped, or whose controller was killed");
  c->add_option("name", a->job, "The job's name")->required();
  add_run_options(c, a);
  c->footer("Examples:\n  thole resume digits");
  c->callback([=] { *chosen = [=](const common_options &common) { return resume(common, *a); }; });
}

void add_plan(CLI::App &app, const common_options &, command *chosen) {
  const auto a = std::make_shared<job_arguments>();
  CLI::App *c = add_placing(app, "plan", "Shows what would be placed where; starts nothing", a);
  c->add_flag("--show", a->show, "Also the job with every default, and what this platform ignores");
  c->footer("Examples:\n  thole plan job.yaml --pool pool.yaml\n  thole plan --show job.yaml --pool pool.yaml");
  c->callback([=] { *chosen = [=](const common_options &common) { return plan(common, *a); }; });
}

void add_explain(CLI::App &app, const common_options &, command *chosen) {
  const auto a = std::make_shared<job_arguments>();
  CLI::App *c = add_placing(app, "explain", "Says why a job does not fit: the tightest constraint, with numbers", a);
  c->footer("Examples:\n  thole explain job.yaml --pool pool.yaml\nExit code 0: it fits; 69: it does not.");
  c->callback([=] { *chosen = [=](const common_options &common) { return explain(common, *a); }; });
}

}  // namespace thole::local
