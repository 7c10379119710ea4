// The `thole` command.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <csignal>
#include <cstdio>
#include <exception>

#include "base/log.h"
#include "base/text.h"
#include "cli/options.h"
#include "core/library.h"
#include "process/launch.h"

namespace thole::local {
namespace {

constexpr add_command commands[] = {add_init,   add_validate, add_run,  add_plan, add_explain, add_status, add_logs,
                                    add_cancel, add_resume,   add_ckpt, add_key,  add_pool,    add_plugin, add_schema};

std::string version_text() {
  std::string text = "thole " THOLE_VERSION;
  if (const thole_root *root = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr))
    text += fmt::format(" (libthole {}, contract {}.{})", view(root->version), root->abi_major, root->abi_minor);
  return text;
}

int run(int argc, char **argv) {
  CLI::App app("Runs training jobs: planned on GPUs and vGPUs, started as gangs, checkpointed, recovered.", "thole");
  app.footer(
      "First steps:\n"
      "  thole init > job.yaml                       a commented job file\n"
      "  thole plan job.yaml --pool pool.yaml        what would be placed, and why\n"
      "  thole run job.yaml --pool pool.yaml         runs it to its end\n"
      "`thole COMMAND --help` has examples of each.");
  common_options common;
  app.set_version_flag("--version", version_text());
  app.add_option("--state", common.state, "Folder of the state [$XDG_STATE_HOME/thole or ~/.local/state/thole]");
  app.add_option("--on", common.platform, "Platform: local");
  app.add_flag("--json", common.as_json, "Answer as JSON on standard output");
  app.add_flag("-q,--quiet", common.quiet, "Warnings and errors only; no output of the ranks");
  app.add_flag("-v,--verbose", common.verbose, "Say more");
  app.require_subcommand(1);
  app.fallthrough();
  command chosen;
  for (const add_command add : commands) add(app, common, &chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    return app.exit(e) == 0 ? exit_ok : exit_usage;
  }
  start_log(common.quiet, common.verbose);
  if (common.platform != "local") {
    std::fprintf(stderr, "thole: --on %s: not yet; this version runs jobs on --on local only\n",
                 common.platform.c_str());
    return exit_usage;
  }
  const result<int> done = chosen(common);
  if (done) return *done;
  print_problem(done.error(), common.as_json);
  return exit_code_of(done.error());
}

}  // namespace
}  // namespace thole::local

int main(int argc, char **argv) {
  // Writing to a rank or a reader that is gone is an error to look at, not the end of this process.
  std::signal(SIGPIPE, SIG_IGN);
  thole::local::keep_files_private();
  try {
    return thole::local::run(argc, argv);
  } catch (const std::exception &e) {
    std::fprintf(stderr, "thole: Defect: %s\n", e.what());
    return thole::local::exit_defect;
  }
}
