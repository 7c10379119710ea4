#include "cli/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "base/log.h"
#include "base/text.h"

namespace thole::local {

int exit_code_of(const problem &p) noexcept {
  if (p.reason == "CommandNotFound") return exit_not_found;
  if (p.reason == "CommandNotExecutable") return exit_not_executable;
  switch (p.code) {
    case THOLE_INVALID:
      return exit_bad_file;
    case THOLE_NOT_FOUND:
      return exit_unknown;
    case THOLE_DENIED:
      return exit_denied;
    case THOLE_DATA_LOSS:
    case THOLE_EXHAUSTED:
      return exit_storage;
    case THOLE_INTERNAL:
      return exit_defect;
    default:
      return exit_unavailable;
  }
}

void print(const std::string &text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void print_json(const json &value) {
  print(value.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

json remarks_json(const std::vector<remark> &remarks) {
  json all = json::array();
  for (const remark &r : remarks)
    all.push_back({{"line", r.line},
                   {"column", r.column},
                   {"field", r.field},
                   {"reason", r.reason},
                   {"message", r.message},
                   {"error", r.error}});
  return all;
}

std::string remark_text(const remark &r, const std::string &file) {
  std::string at = file;
  if (r.line > 0) at += fmt::format(":{}:{}", r.line, r.column);
  return fmt::format("{}: {}{}{}", at, r.field.empty() ? "" : r.field + ": ", r.message,
                     r.error ? " (" + r.reason + ")" : "");
}

void print_problem(const problem &p, bool as_json) {
  const bool colour = colour_on(STDERR_FILENO);
  std::fflush(stdout);
  std::fprintf(stderr, "%sthole: %s%s: %s\n", colour ? "\x1b[31m" : "", p.reason.c_str(), colour ? "\x1b[0m" : "",
               utf8_or_replaced(p.message).c_str());
  std::size_t errors = 0;
  for (const remark &r : p.remarks) errors += r.error ? 1 : 0;
  if (errors > 1)
    for (const remark &r : p.remarks)
      if (r.error) std::fprintf(stderr, "  %s\n", remark_text(r, "").substr(1).c_str());
  if (!as_json) return;
  print_json({{"error",
               {{"reason", p.reason},
                {"message", utf8_or_replaced(p.message)},
                {"code", p.code},
                {"exitCode", exit_code_of(p)},
                {"notes", remarks_json(p.remarks)}}}});
}

}  // namespace thole::local
