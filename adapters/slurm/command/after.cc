// thole-slurm after: what the batch script ends with, on the job's first node. The recovery service decides; Slurm
// starts the job again.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <regex>
#include <thread>

#include "commands.h"
#include "files.h"
#include "state.h"

namespace thole::slurm {
namespace {

constexpr int stopped = 75;

void say(const std::string &text) {
  std::fprintf(stderr, "thole: %s\n", text.c_str());
}

uint64_t this_attempt() {
  const char *text = std::getenv("THOLE_ATTEMPT");
  return text == nullptr ? 1 : number(text).value_or(1);
}

// "srun: error: n2: task 3: Killed" : the first rank of which srun tells.
struct first_word {
  uint64_t rank = 0;
  int signal = 0;
  int code = 0;
  std::string what;
};

// srun names signals as strsignal(3) does, and codes as "Exited with exit code N".
void read_end(const std::string &what, first_word &w) {
  static const std::string exited = "Exited with exit code ";
  if (what.rfind(exited, 0) == 0) w.code = static_cast<int>(number(what.substr(exited.size())).value_or(1));
  for (int n = 1; n < 32 && w.code == 0; ++n)
    if (what.rfind(::strsignal(n), 0) == 0) w.signal = n;
}

first_word first_failure(const submitted &s, uint64_t attempt) {
  static const std::regex line("srun: error: ([^:]+): tasks? ([0-9]+)[^:]*: (.*)");
  const auto text = read_file(fmt::format("{}/attempts/{}/srun.log", s.folder, attempt));
  if (!text) return {};
  for (const std::string &l : lines_of(*text))
    if (std::smatch m; std::regex_search(l, m, line)) {
      first_word w{number(m[2].str()).value_or(0) * s.ranks_per_member, 0, 0, ""};
      read_end(m[3].str(), w);
      w.what = fmt::format("on {}: {}", m[1].str(), m[3].str());
      return w;
    }
  return {};
}

json read_history(const submitted &s) {
  const auto text = read_file(s.folder + "/incidents.json");
  const json all = text ? json::parse(*text, nullptr, false) : json();
  return all.is_array() ? all : json::array();
}

result<bool> decide(const core &c, const submitted &s, const json &history, std::string &message) {
  std::vector<thole_incident> incidents;
  for (const json &one : history) {
    auto i = sized<thole_incident>();
    i.kind = one.value("kind", "") == "signal" ? THOLE_INCIDENT_SIGNAL : THOLE_INCIDENT_EXIT;
    i.rank = one.value("rank", 0u);
    i.code = one.value("code", 0);
    i.attempt = one.value("attempt", uint64_t{1});
    i.step = one.value("step", uint64_t{0});
    incidents.push_back(i);
  }
  auto policy = sized<thole_recovery_policy>();
  policy.max_incidents = s.max_incidents;
  policy.max_without_progress = s.max_without_progress;
  policy.max_same_cause = s.max_same_cause;
  const thole_list list{incidents.data(), incidents.size(), sizeof(thole_incident)};
  std::vector<uint64_t> room;
  auto decision = sized<thole_decision>();
  THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *status) {
    return c.root().recovery->decide(c.handle(), &list, &policy, &decision, b, status);
  }));
  message = own(decision.reason) + ": " + own(decision.message);
  return decision.action == THOLE_RECOVERY_RESTART;
}

// Slurm ends this script while it puts the job back into the queue.
result<int> start_again(int code) {
  const char *id = std::getenv("SLURM_JOB_ID");
  THOLE_LET(const finished done, run_program({"scontrol", "requeue", id == nullptr ? "" : id}));
  if (done.code != 0) return fail(reason::SystemCallFailed, "Slurm does not start the job again: {}", done.err);
  std::this_thread::sleep_for(std::chrono::seconds(60));
  return code;
}

result<int> after_incident(const core &c, const submitted &s, int code) {
  json history = read_history(s);
  const uint64_t attempt = this_attempt();
  const first_word first = first_failure(s, attempt);
  uint64_t step = 0;
  if (!s.store.empty() && exists(s.store)) {  // the first save makes it
    THOLE_LET(step, newest_step(c, s.checkpoints()));
  }
  // Without a word of srun's, its own code: that of the worst task.
  const int signal = first.signal > 0 ? first.signal : first.code == 0 && code > 128 ? code - 128 : 0;
  history.push_back({{"kind", signal > 0 ? "signal" : "exit"},
                     {"rank", first.rank},
                     {"code", signal > 0       ? signal
                              : first.code > 0 ? first.code
                                               : code},
                     {"attempt", attempt},
                     {"step", step},
                     {"message", fmt::format("rank {} {}", first.rank, first.what)}});
  THOLE_TRY(write_file(s.folder + "/incidents.json", history.dump(2) + "\n"));
  std::string message;
  THOLE_LET(const bool again, decide(c, s, history, message));
  say(fmt::format("attempt {}: rank {} {}; the newest checkpoint is of step {}; {}", attempt, first.rank, first.what,
                  step, message));
  if (again) return start_again(code);
  return code;
}

}  // namespace

result<int> after(const std::string &folder, int code) {
  THOLE_LET(const submitted s, load_folder(folder));
  THOLE_LET(const auto c, core::open());
  if (!s.store.empty() && s.keep > 0 && exists(s.store))
    if (const auto retired = retire(*c, s.checkpoints(), s.keep); !retired) say(retired.error().message);
  if (code == 0) return 0;
  if (exists(folder + "/cancelled")) return code;
  // Stopped by Slurm: at its time limit it is over, and for a job that goes before, it waits for its turn. The first
  // rank that left says so; srun's own code is that of the worst, which it may have killed because that one had left.
  if (code != stopped && first_failure(s, this_attempt()).code != stopped) return after_incident(*c, s, code);
  if (s.limited) return stopped;
  say(fmt::format("attempt {} was stopped after a last checkpoint: back into the queue", this_attempt()));
  return start_again(stopped);
}

}  // namespace thole::slurm
