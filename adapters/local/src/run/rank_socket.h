// run/rank_socket.h: the socket that ranks talk to: one JSON object a line (docs/reference/job-environment.md).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "run/event_loop.h"
#include "state/job_state.h"

namespace thole::local {

class rank_socket {
 public:
  static constexpr std::size_t most_line_bytes = 65536;
  static constexpr std::size_t most_connections = 4096;

  // `message` is told of each object with the number of its connection; `closed` when a connection ends.
  struct events {
    std::function<void(int connection, const json &message)> message;
    std::function<void(int connection)> closed;
  };
  static result<std::unique_ptr<rank_socket>> open(event_loop &loop, const std::string &path, events e);
  ~rank_socket();

  void send(int connection, const json &message);
  void close(int connection);
  // Reads what all connections have sent by now.
  void drain();

 private:
  struct connection {
    unique_fd fd;
    std::string pending;
  };
  explicit rank_socket(event_loop &loop) : loop_(loop) {}
  void accept();
  void read(int number);
  bool cut_lines(int number);
  event_loop &loop_;
  events events_;
  std::string path_;
  unique_fd listener_;
  std::map<int, connection> connections_;
  int next_ = 1;
};

}  // namespace thole::local
