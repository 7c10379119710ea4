#include "base/log.h"

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

namespace thole::local {
namespace {

// One logger, sinks of its own choice: the registry of spdlog is the process's and not needed.
struct outputs {
  std::shared_ptr<spdlog::sinks::sink> terminal;
  std::shared_ptr<spdlog::sinks::sink> file;
  std::shared_ptr<spdlog::logger> logger;
};
outputs out;

void rebuild() {
  std::vector<spdlog::sink_ptr> sinks;
  if (out.terminal) sinks.push_back(out.terminal);
  if (out.file) sinks.push_back(out.file);
  out.logger = std::make_shared<spdlog::logger>("thole", sinks.begin(), sinks.end());
  out.logger->set_level(spdlog::level::debug);
  out.logger->flush_on(spdlog::level::debug);
}

spdlog::level::level_enum level_of(thole_log_level level) {
  if (level >= THOLE_LOG_ERROR) return spdlog::level::err;
  // What the core finds worth telling its host is a detail to a person at a terminal: -v shows it, the job's log has
  // it.
  return level >= THOLE_LOG_WARN ? spdlog::level::warn : spdlog::level::debug;
}

}  // namespace

bool colour_on(int fd) {
  const char *off = std::getenv("NO_COLOR");
  const char *terminal = std::getenv("TERM");
  return (off == nullptr || *off == '\0') && ::isatty(fd) == 1 &&
         (terminal == nullptr || std::string_view(terminal) != "dumb");
}

void start_log(bool quiet, bool verbose) {
  const auto mode = colour_on(STDERR_FILENO) ? spdlog::color_mode::always : spdlog::color_mode::never;
  auto terminal = std::make_shared<spdlog::sinks::stderr_color_sink_st>(mode);
  terminal->set_pattern("%^thole:%$ %v");
  terminal->set_color(spdlog::level::debug, terminal->dark);
  terminal->set_color(spdlog::level::info, terminal->cyan);
  terminal->set_level(quiet ? spdlog::level::warn : verbose ? spdlog::level::debug : spdlog::level::info);
  out.terminal = terminal;
  rebuild();
}

void log_to_file(const std::string &file) {
  try {
    out.file = std::make_shared<spdlog::sinks::rotating_file_sink_st>(file, 1 << 20, 2);
    out.file->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    rebuild();
  } catch (const spdlog::spdlog_ex &e) {
    warn("the log file cannot be written: {}", e.what());
  }
}

void log_line(tone t, std::string_view text) {
  if (!out.logger) return;
  const auto level = t == tone::bad       ? spdlog::level::err
                     : t == tone::warning ? spdlog::level::warn
                                          : spdlog::level::info;
  out.logger->log(level, "{}", text);
}

void log_from_core(thole_log_level level, std::string_view component, std::string_view message) {
  if (out.logger) out.logger->log(level_of(level), "{}: {}", component, message);
}

}  // namespace thole::local
