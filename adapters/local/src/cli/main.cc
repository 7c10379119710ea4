// The `thole` command.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/text.h"
#include "cli/elsewhere.h"
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

// How many letters must be changed, added or left out to make b of a.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, changed}));
    }
  }
  return row[b.size()];
}

// What was wrong with a command line, and where to look. `words`: what is left over of it.
int explain_usage(const CLI::App &app, const CLI::ParseError &e, const std::vector<std::string> &words) {
  std::string name = "thole";
  const CLI::App *at = &app;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    name += " " + at->get_name();
  }
  const auto known = at->get_subcommands([](const CLI::App *) { return true; });
  const auto unknown = std::find_if(words.begin(), words.end(), [](const std::string &w) { return w[0] != '-'; });
  if (known.empty() || unknown == words.end()) {
    std::fprintf(stderr, "%s: %s\n`%s --help` shows how it is used\n", name.c_str(), e.what(), name.c_str());
    return exit_usage;
  }
  const auto *const near = *std::min_element(known.begin(), known.end(), [&](const CLI::App *a, const CLI::App *b) {
    return distance(a->get_name(), *unknown) < distance(b->get_name(), *unknown);
  });
  std::fprintf(stderr, "%s: there is no command %s%s\n`%s --help` lists them\n", name.c_str(), unknown->c_str(),
               distance(near->get_name(), *unknown) <= 2 ? (": is " + near->get_name() + " meant?").c_str() : "",
               name.c_str());
  return exit_usage;
}

int run(int argc, char **argv) {
  if (const auto code = go_elsewhere(argc, argv)) return *code;
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
  app.add_option("--on", common.platform, "Platform: local, slurm, kubernetes or ray [local]");
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
    if (e.get_exit_code() == 0) return app.exit(e);
    return explain_usage(app, e, app.remaining(true));
  }
  start_log(common.quiet, common.verbose);
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
