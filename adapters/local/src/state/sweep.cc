#include "state/sweep.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <set>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "process/proc.h"

namespace thole::local {
namespace {

constexpr int64_t patience_ns = 5 * second_ns;

// This process and all above it: who calls thole from inside a job must not end itself.
std::set<pid_t> own_line() {
  std::set<pid_t> line;
  for (pid_t pid = ::getpid(); pid > 1;) {
    line.insert(pid);
    const auto s = read_stat(pid);
    pid = s ? s->parent : 0;
  }
  return line;
}

std::vector<process_name> processes_of(const job_state &s) {
  const std::set<pid_t> spared = own_line();
  std::vector<process_name> found;
  for (const process_name &p : s.processes)
    if (still_lives(p) && spared.count(p.pid) == 0) found.push_back(p);
  const std::string run = id_text(s.run);
  for (const proc_stat &p : all_processes()) {
    if (spared.count(p.pid) != 0 || p.state == 'Z') continue;
    // Both must agree, so that nothing but this run's own is ended.
    if (environment_of(p.pid, "THOLE_RUN") == run && environment_of(p.pid, "THOLE_JOB") == s.name)
      found.push_back({p.pid, p.start, boot_id()});
  }
  return found;
}

void wait_for_end(const process_name &p, int64_t deadline) {
  const unique_fd fd(static_cast<int>(::syscall(SYS_pidfd_open, p.pid, 0)));
  if (!fd || !still_lives(p)) return;
  pollfd wait{fd.get(), POLLIN, 0};
  ::poll(&wait, 1, static_cast<int>(std::max<int64_t>(0, (deadline - now_ns()) / millisecond_ns)));
}

}  // namespace

std::size_t end_orphans(const job_state &s) {
  std::set<int> ended;
  for (const int64_t deadline = now_ns() + patience_ns; now_ns() < deadline;) {
    const std::vector<process_name> left = processes_of(s);
    if (left.empty()) break;
    for (const process_name &p : left) {
      signal_process(p, SIGKILL);
      ended.insert(p.pid);
    }
    for (const process_name &p : left) wait_for_end(p, deadline);
  }
  if (!ended.empty()) say("ended {} processes of {}, whose controller is gone", ended.size(), s.name);
  if (!s.runtime.empty()) remove_tree(s.runtime);
  return ended.size();
}

result<> sweep(const layout &l, ledger &g) {
  THOLE_LET(const std::vector<thole_id> held, g.gangs());
  std::set<std::string> living;
  for (const std::string &name : l.job_names()) {
    auto lock = lock_job(l, name, 0);
    auto state = load(l, name);
    if (!state) continue;
    if (!lock) {
      living.insert(id_text(state->gang));
    } else if (!is_final(state->now)) {
      end_orphans(*state);
    }
  }
  for (const thole_id gang : held)
    if (living.count(id_text(gang)) == 0) THOLE_TRY(g.release(gang));
  return {};
}

}  // namespace thole::local
