// base/log.h: what the command says while it works: to the terminal, and into the job's own log file.
#pragma once

#include <fmt/core.h>
#include <thole/core.h>

#include <string>
#include <string_view>

namespace thole::local {

enum class tone { plain, good, warning, bad };

// Colour only where a terminal reads it and NO_COLOR is not set. quiet keeps all but warnings off the terminal.
void start_log(bool quiet, bool verbose);
bool colour_on(int fd);

// From now on everything goes into `file` as well: 1 MiB, two older ones kept.
void log_to_file(const std::string &file);

void log_line(tone t, std::string_view text);
void log_from_core(thole_log_level level, std::string_view component, std::string_view message);

template <class... Args>
void say(fmt::format_string<Args...> format, Args &&...args) {
  log_line(tone::plain, fmt::vformat(format, fmt::make_format_args(args...)));
}
template <class... Args>
void say_good(fmt::format_string<Args...> format, Args &&...args) {
  log_line(tone::good, fmt::vformat(format, fmt::make_format_args(args...)));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args &&...args) {
  log_line(tone::warning, fmt::vformat(format, fmt::make_format_args(args...)));
}

}  // namespace thole::local
