#include "run/ranks.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <tuple>

#include "base/clock.h"
#include "base/text.h"
#include "process/proc.h"

namespace thole::local {
namespace {

constexpr int64_t silence_ns = 2 * second_ns;  // heartbeats come every half second

// When several things are seen at one time, the one that is more likely a cause than a consequence is first. A rank
// that loses its peer throws, exits, or aborts; hardly ever is it killed, and it tells after the peer told.
enum suspicion { killed_outright, crashed, told, exited_badly, aborted };

struct sign {
  uint64_t batch;
  suspicion rank_of;
  const member_process *member;
  const rank_view *rank;
};

suspicion suspicion_of(int status) {
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status) == 128 + SIGABRT ? aborted : exited_badly;
  return WTERMSIG(status) == SIGKILL ? killed_outright : WTERMSIG(status) == SIGABRT ? aborted : crashed;
}

// Of a launcher's ranks the one that told of a failure first, else the one that went silent first, else the lowest.
const rank_view *first_rank_of(const attempt_view &a, const member_process &m) {
  const auto order = [](const rank_view &r) {
    return std::tuple(r.failure ? r.failure->batch : UINT64_MAX,
                      r.closed_batch != 0 && !r.reported ? r.closed_batch : UINT64_MAX, r.rank);
  };
  const rank_view *first = nullptr;
  for (const rank_view &r : a.ranks)
    if (&a.members[r.member] == &m && (first == nullptr || order(r) < order(*first))) first = &r;
  return first;
}

// A dying process closes its connections well before its parent is told: its peers may complain in between. What came
// first is the end of its connection to us.
uint64_t end_batch(const attempt_view &a, const member_process &m) {
  uint64_t batch = m.batch;
  for (const rank_view &r : a.ranks)
    if (&a.members[r.member] == &m && r.closed_batch != 0) batch = std::min(batch, r.closed_batch);
  return batch;
}

std::optional<sign> first_sign(const attempt_view &a) {
  std::optional<sign> first;
  // No peer's failure makes a SIGKILL, whatever the order in which the news arrive.
  const auto order = [](const sign &s) { return std::tuple(s.rank_of != killed_outright, s.batch, s.rank_of); };
  const auto consider = [&](const sign &s) {
    if (!first || order(s) < order(*first)) first = s;
  };
  for (const member_process &m : a.members)
    if (m.exited && m.failed()) consider({end_batch(a, m), suspicion_of(m.status), &m, first_rank_of(a, m)});
  for (const rank_view &r : a.ranks)
    if (r.failure) consider({r.failure->batch, told, &a.members[r.member], &r});
  return first;
}

// A rank that left with 0 while others had more to do: what they then ran into is its doing.
const rank_view *left_early(const attempt_view &a, const sign &s) {
  if (s.rank_of == killed_outright) return nullptr;
  uint64_t most = 0;
  for (const rank_view &r : a.ranks) most = std::max(most, r.step);
  for (const rank_view &r : a.ranks) {
    const member_process &m = a.members[r.member];
    const bool before = m.exited && !m.failed() && m.batch <= s.batch;
    if (before && !r.reported && (r.step < most || most == 0)) return &r;
  }
  return nullptr;
}

void describe_exit(const member_process &m, bool memory_was_out, incident_state &i) {
  if (!m.exited) return;
  if (WIFSIGNALED(m.status)) {
    i.kind = memory_was_out && WTERMSIG(m.status) == SIGKILL ? "memory" : "signal";
    i.code = WTERMSIG(m.status);
    i.message = i.kind == "memory" ? "killed because memory was out" : "killed by " + signal_text(i.code);
  } else {
    i.kind = "exit";
    i.code = WEXITSTATUS(m.status);
    i.message = fmt::format("ended with exit code {}", i.code);
  }
}

}  // namespace

bool member_process::failed() const noexcept {
  return !(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == exit_stopped));
}

uint64_t attempt_view::newest_step() const noexcept {
  uint64_t newest = 0;
  for (const rank_view &r : ranks) newest = std::max(newest, r.step);
  return newest;
}

bool is_dying(const attempt_view &a) {
  return std::any_of(a.ranks.begin(), a.ranks.end(), [&](const rank_view &r) {
    const member_process &m = a.members[r.member];
    return r.closed_batch != 0 && !r.failure && !r.reported && !m.exited && r.pid == m.process.pid;
  });
}

std::optional<incident_state> find_failure(const attempt_view &a, bool memory_was_out, bool *settled) {
  const auto s = first_sign(a);
  if (!s || s->rank == nullptr) return std::nullopt;
  incident_state i;
  i.attempt = a.attempt;
  i.rank = s->rank->rank;
  i.at_step = s->rank->step;
  i.kind = "exit";
  i.code = 1;
  // No peer's failure makes a SIGKILL, so nobody who is still being taken down can be the cause of one.
  *settled = s->member->exited && (s->rank_of == killed_outright || !is_dying(a));
  describe_exit(*s->member, memory_was_out, i);
  if (const auto &f = s->rank->failure) {
    i.message = f->type + ": " + f->message + (f->place.empty() ? "" : " (" + f->place + ")");
    i.traceback = f->traceback;
    i.cause = hashed_id(f->type + "\n" + f->place);
    if (f->type == "MemoryError") i.kind = "memory";
  } else if (i.kind == "exit") {
    if (s->member->log) i.traceback.assign(s->member->log->last().begin(), s->member->log->last().end());
    i.cause = hashed_id(fmt::format("exit {}\n{}", i.code, i.traceback.empty() ? "" : i.traceback.back()));
  }
  if (const rank_view *early = left_early(a, *s)) {
    const std::string then = fmt::format("rank {} then failed: {}", i.rank, i.message);
    i.kind = "early";
    i.rank = early->rank;
    i.at_step = early->step;
    i.code = 0;
    i.message = "ended with exit code 0 while others went on; " + then;
    i.cause = hashed_id(fmt::format("early {}", early->rank));
  }
  return i;
}

std::optional<incident_state> find_hang(const attempt_view &a, const patience &p, int64_t now) {
  bool joined = false;
  bool stepped = false;
  for (const rank_view &r : a.ranks) joined |= r.joined, stepped |= r.stepped;
  bool hangs = false;
  int64_t longest = 0;
  for (const rank_view &r : a.ranks) {
    const member_process &m = a.members[r.member];
    if (m.exited || r.reported) continue;
    const int64_t since = now - (r.stepped || r.progress_ns > 0 ? r.progress_ns : a.started_ns);
    const int64_t allowed = r.stepped ? p.hang_ns : stepped ? 0 : p.start_ns;
    // Who never speaks is watched by its process state only.
    const bool without_progress = r.joined && joined && allowed > 0 && since > allowed;
    const bool stopped = p.hang_ns > 0 && m.stopped_since_ns > 0 && now - m.stopped_since_ns > p.hang_ns;
    if (without_progress || stopped)
      hangs = true, longest = std::max(longest, stopped ? now - m.stopped_since_ns : since);
  }
  if (!hangs) return std::nullopt;

  // First: one whose process is stopped; one that is silent; the one with the fewest steps. Ties: the lowest rank.
  const auto order = [&](const rank_view &r) {
    const member_process &m = a.members[r.member];
    const bool is_stopped = m.stopped_since_ns > 0;
    const bool silent = r.joined && now - r.alive_ns > silence_ns;
    return std::tuple(!is_stopped, !silent, r.step, r.rank);
  };
  const rank_view *first = nullptr;
  for (const rank_view &r : a.ranks)
    if (!a.members[r.member].exited && !r.reported && (first == nullptr || order(r) < order(*first))) first = &r;
  incident_state i;
  i.attempt = a.attempt;
  i.kind = "hang";
  i.rank = first->rank;
  i.at_step = first->step;
  i.detection_ns = longest;
  const bool is_stopped = a.members[first->member].stopped_since_ns > 0;
  const bool silent = first->joined && now - first->alive_ns > silence_ns;
  i.message = fmt::format("no train step for {}: {}", duration_text(longest),
                          is_stopped ? "its process is stopped (SIGSTOP)"
                          : silent ? fmt::format("nothing was heard of it for {}", duration_text(now - first->alive_ns))
                                   : "it is alive and behind, or equal with, all others");
  i.cause = hashed_id(fmt::format("hang {}", first->rank));
  return i;
}

std::string describe(const incident_state &i) {
  return fmt::format("rank {} at step {} of attempt {}: {}", i.rank, i.at_step, i.attempt, i.message);
}

}  // namespace thole::local
