// `thole-slurm`: what `thole COMMAND --on slurm` runs.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "core.h"

namespace thole::slurm {
namespace {

using chosen_command = std::function<result<int>()>;

struct arguments {
  common_options common;
  submit_options submit;
  logs_options logs;
  std::string name;
  std::string folder;
  int code = 0;
  uint32_t seconds = 5;
  bool now = false;
  bool once = false;
  chosen_command chosen;
};

void add_jobs(CLI::App &app, arguments &a) {
  CLI::App *submit_app = app.add_subcommand("submit", "Submits a job file to Slurm");
  submit_app->add_option("job", a.submit.job, "TrainingJob file")->required();
  submit_app->add_option("--nodes", a.submit.nodes, "Nodes [as few as the vGPUs fit on]");
  submit_app->add_option("--store", a.submit.store, "Folder of the checkpoints [below the state folder]");
  submit_app->add_option("--key", a.submit.key, "Key file [below the state folder, made if it is not there]");
  submit_app->add_flag("--dry-run", a.submit.dry_run, "Print the batch script; submit nothing");
  submit_app->callback([&a] { a.chosen = [&a] { return submit(a.common, a.submit); }; });

  CLI::App *status_app = app.add_subcommand("status", "Lists the jobs, or tells all of one");
  status_app->add_option("name", a.name, "The job's name");
  status_app->callback([&a] { a.chosen = [&a] { return status(a.common, a.name); }; });

  CLI::App *logs_app = app.add_subcommand("logs", "What the ranks have written");
  logs_app->add_option("name", a.logs.name, "The job's name")->required();
  logs_app->add_option("--rank", a.logs.rank, "Only this rank");
  logs_app->add_option("--attempt", a.logs.attempt, "Which attempt [the newest]");
  logs_app->add_flag("-f,--follow", a.logs.follow, "Go on to the end, across attempts");
  logs_app->callback([&a] { a.chosen = [&a] { return logs(a.common, a.logs); }; });

  CLI::App *cancel_app = app.add_subcommand("cancel", "Asks a job to save and stop; --now kills it");
  cancel_app->add_option("name", a.name, "The job's name")->required();
  cancel_app->add_flag("--now", a.now, "Kill it");
  cancel_app->callback([&a] { a.chosen = [&a] { return cancel(a.common, a.name, a.now); }; });

  CLI::App *explain_app = app.add_subcommand("explain", "Why a job waits: what it wants, and the largest hole");
  explain_app->add_option("job", a.name, "The job's name, or Slurm's number of it")->required();
  explain_app->callback([&a] { a.chosen = [&a] { return explain(a.common, a.name); }; });
}

void add_site(CLI::App &app, arguments &a) {
  CLI::App *watch_app =
      app.add_subcommand("watch", "For operators: keeps the admin comment of waiting jobs up to date");
  watch_app->add_option("--every", a.seconds, "Seconds between two looks [5]")->check(CLI::Range(1, 3600));
  watch_app->add_flag("--once", a.once, "Look once");
  watch_app->callback([&a] { a.chosen = [&a] { return watch(a.common, a.seconds, a.once); }; });

  CLI::App *gpus_app =
      app.add_subcommand("gpus", "For operators: lists this node's GPUs, for the file that thole.conf names");
  gpus_app->callback([&a] { a.chosen = [] { return list_gpus(); }; });

  CLI::App *after_app = app.add_subcommand("after", "What batch scripts of `submit` end with");
  after_app->add_option("folder", a.folder, "The job's folder")->required();
  after_app->add_option("--code", a.code, "How srun ended")->required();
  after_app->callback([&a] { a.chosen = [&a] { return after(a.folder, a.code); }; });
}

int run(int argc, char **argv) {
  CLI::App app("Runs Thole's jobs on Slurm. `thole COMMAND --on slurm` calls it.", "thole-slurm");
  arguments a;
  app.set_version_flag("--version", "thole-slurm " THOLE_VERSION " (libthole " + core::version() + ")");
  app.add_option("--state", a.common.state,
                 "Folder of the state, seen by all nodes [$XDG_STATE_HOME/thole or ~/.local/state/thole]");
  app.add_flag("--json", a.common.as_json, "Answer as JSON on standard output");
  app.require_subcommand(1);
  app.fallthrough();
  add_jobs(app, a);
  add_site(app, a);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    return app.exit(e) == 0 ? 0 : 64;
  }
  const result<int> done = a.chosen();
  if (done) return *done;
  const problem &p = done.error();
  std::fprintf(stderr, "thole: %s: %s\n", p.reason.c_str(), p.message.c_str());
  if (a.common.as_json)
    std::printf(
        "%s\n",
        nlohmann::ordered_json{
            {"error", {{"reason", p.reason}, {"message", p.message}, {"code", p.code}, {"exitCode", exit_code_of(p)}}}}
            .dump(2)
            .c_str());
  return exit_code_of(p);
}

}  // namespace
}  // namespace thole::slurm

int main(int argc, char **argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return thole::slurm::run(argc, argv);
  } catch (const std::exception &e) {
    std::fprintf(stderr, "thole: Defect: %s\n", e.what());
    return 70;
  }
}
