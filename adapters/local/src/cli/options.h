// cli/options.h: what all commands take, and how they answer.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "state/job_state.h"
#include "state/layout.h"

namespace thole::local {

// Exit codes of this command. docs/reference/cli.md lists them.
enum exit_code {
  exit_ok = 0,
  exit_usage = 64,
  exit_bad_file = 65,
  exit_unknown = 66,
  exit_unavailable = 69,
  exit_defect = 70,
  exit_storage = 74,
  exit_denied = 77,
  exit_not_executable = 126,
  exit_not_found = 127
};

struct common_options {
  std::string state;
  std::string platform = "local";
  bool as_json = false;
  bool quiet = false;
  bool verbose = false;
};

// A command does its work and answers with its exit code.
using command = std::function<result<int>(const common_options &)>;

// Each adds itself to the app, and sets *chosen when it is the one.
using add_command = void (*)(CLI::App &app, const common_options &common, command *chosen);
void add_init(CLI::App &app, const common_options &common, command *chosen);
void add_validate(CLI::App &app, const common_options &common, command *chosen);
void add_run(CLI::App &app, const common_options &common, command *chosen);
void add_plan(CLI::App &app, const common_options &common, command *chosen);
void add_explain(CLI::App &app, const common_options &common, command *chosen);
void add_status(CLI::App &app, const common_options &common, command *chosen);
void add_logs(CLI::App &app, const common_options &common, command *chosen);
void add_cancel(CLI::App &app, const common_options &common, command *chosen);
void add_resume(CLI::App &app, const common_options &common, command *chosen);
void add_ckpt(CLI::App &app, const common_options &common, command *chosen);
void add_key(CLI::App &app, const common_options &common, command *chosen);
void add_pool(CLI::App &app, const common_options &common, command *chosen);
void add_plugin(CLI::App &app, const common_options &common, command *chosen);
void add_schema(CLI::App &app, const common_options &common, command *chosen);

int exit_code_of(const problem &p) noexcept;
void print(const std::string &text);
void print_json(const json &value);
// For people on standard error; with --json as an object on standard output too.
void print_problem(const problem &p, bool as_json);
json remarks_json(const std::vector<remark> &remarks);
std::string remark_text(const remark &r, const std::string &file);

}  // namespace thole::local
