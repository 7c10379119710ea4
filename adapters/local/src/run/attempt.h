// run/attempt.h: one life of a job: its processes, what they say, and their end.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoints.h"
#include "core/documents.h"
#include "run/event_loop.h"
#include "run/inject.h"
#include "run/rank_socket.h"
#include "run/ranks.h"

namespace thole::local {

// What the controller wants to be told while an attempt runs.
struct attempt_listener {
  virtual ~attempt_listener() = default;
  virtual void on_line(uint32_t rank, const std::string &line) = 0;
  virtual void on_step(const rank_view &rank, uint64_t before) = 0;
  virtual void on_checkpoint(const rank_view &rank, const json &what) = 0;
  virtual void on_restored(const rank_view &rank, uint64_t step) = 0;
  virtual void on_result(const rank_view &rank, const json &what) = 0;
};

struct attempt_plan {
  uint64_t number = 1;
  std::string folder;   // attempts/N
  std::string runtime;  // for the socket
  const job_spec *job = nullptr;
  const job_state *state = nullptr;
  const store_place *store = nullptr;                  // or NULL
  std::vector<std::string> programs;                   // per role, found
  std::vector<std::string> records;                    // per member: the record's text
  std::vector<std::vector<std::string>> environments;  // per member, of the partition service
};

class attempt {
 public:
  attempt(event_loop &loop, attempt_plan plan, attempt_listener &listener, std::vector<injection> &injections);
  ~attempt();

  // Makes the folder, the socket and the processes, which wait. Then they are in view() and can be written down.
  result<> prepare();
  // Lets all of them run. Fails: CommandNotFound, CommandNotExecutable.
  result<> start();

  // To be called after each batch of events, and at least every 100 ms.
  void look(int64_t now);
  // Reaps whoever has ended.
  void reap();

  const attempt_view &view() const noexcept { return view_; }
  bool all_ended() const noexcept;
  bool memory_was_out() const;
  // When the fault behind an incident was injected; 0 if it was not.
  int64_t injected_at(uint32_t rank) const;

  // Asks all ranks to save and leave: a message, and SIGTERM.
  void ask_to_stop(const std::string &why, double grace_seconds);
  // Ends what is left: SIGTERM, `patience_ns` later SIGKILL, and everything that descends from it.
  void end(int64_t patience_ns);
  // Reads what is still in pipes and sockets.
  void drain();

 private:
  result<> prepare_member(std::size_t index, uint16_t port);
  std::vector<std::string> environment_of_member(std::size_t index, uint16_t port) const;
  void on_message(int connection, const json &message);
  void on_hello(int connection, const json &hello);
  void on_rank_message(rank_view &rank, const json &message);
  void on_failure(rank_view &rank, const json &failure);
  void inject(const rank_view &rank, bool sealing);
  rank_view *rank_of(int connection);
  void note_exit(int pid, int status);

  event_loop &loop_;
  attempt_plan plan_;
  attempt_listener &listener_;
  std::vector<injection> &injections_;
  attempt_view view_;
  std::vector<class waiting_process> waiting_;
  std::unique_ptr<rank_socket> socket_;
  uint64_t memory_kills_ = 0;
};

}  // namespace thole::local
