// process/launch.h: starts a process in two steps, so that it is on record before its program runs.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/files.h"
#include "base/problem.h"

namespace thole::local {

// This process writes files that only its owner may read; what it starts writes as its user is used to.
void keep_files_private();

struct launch_request {
  std::string program;                 // path, already found
  std::vector<std::string> arguments;  // argv, with argv[0]
  std::vector<std::string> environment;
  std::string folder;
};

// The path of a command's program. Fails: CommandNotFound, CommandNotExecutable.
result<std::string> find_program(const std::string &name, const std::string &search_path, const std::string &folder);

// A process that waits, in a session of its own, for go() before it executes its program. If the one who holds this
// object dies first, the process ends without a trace.
class waiting_process {
 public:
  static result<waiting_process> fork(const launch_request &request);
  pid_t pid() const noexcept { return pid_; }
  // Where its standard output and error arrive.
  unique_fd take_output() noexcept { return std::move(output_); }

  // Lets it execute. Fails as find_program, if the kernel refuses.
  result<> go(const std::string &program);

 private:
  pid_t pid_ = 0;
  unique_fd go_;
  unique_fd failure_;
  unique_fd output_;
};

// A TCP port of 127.0.0.1 that nobody uses, outside the range out of which the kernel gives ports to connections.
result<uint16_t> free_port();

}  // namespace thole::local
