// process/rank_log.h: takes what a member writes, keeps it in a file of bounded size, and hands on its lines.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "base/files.h"

namespace thole::local {

class rank_log {
 public:
  static constexpr std::size_t most_file_bytes = 16u << 20;  // then it becomes FILE.1, and the one before is dropped
  static constexpr std::size_t most_line_bytes = 4096;       // of a line that is handed on
  static constexpr std::size_t last_lines = 20;

  // `line` is told of each whole line, without its end.
  rank_log(std::string file, unique_fd from, std::function<void(const std::string &)> line);
  int descriptor() const noexcept { return from_.get(); }

  // Takes what is there without waiting. False at the end of the pipe.
  bool drain();
  const std::deque<std::string> &last() const noexcept { return last_; }

 private:
  void write(const char *data, std::size_t size);
  void cut_lines(const char *data, std::size_t size);
  void end_line();
  std::string file_;
  unique_fd from_;
  unique_fd to_;
  std::function<void(const std::string &)> line_;
  std::string partial_;
  std::deque<std::string> last_;
  std::size_t size_ = 0;
};

}  // namespace thole::local
