#include "recovery/decide.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

namespace thole::recovery {
namespace {

// The three counts that a history comes to. Each is compared with its bound, and nothing else decides.
struct tally {
  uint64_t incidents = 0;
  uint64_t without_progress = 0;  // in a row, up to the last incident
  uint64_t same_cause = 0;        // in a row, with one known cause and without progress after the first of them
};

// Progress is a step beyond every earlier one, not beyond the last: a job that loses a checkpoint and reaches the same
// step again and again must not look as if it went on.
tally count(std::span<const incident> history) {
  tally t;
  uint64_t best = 0;
  id128 last;
  for (const incident &i : history) {
    const bool progress = i.step > best;
    best = std::max(best, i.step);
    t.incidents += 1;
    t.without_progress = progress ? 0 : t.without_progress + 1;
    if (!i.cause) t.same_cause = 0;
    else if (!progress && i.cause == last) t.same_cause += 1;
    else t.same_cause = 1;
    last = i.cause;
  }
  return t;
}

policy with_defaults(policy p) {
  if (p.max_incidents == 0) p.max_incidents = 100;
  if (p.max_without_progress == 0) p.max_without_progress = 3;
  if (p.max_same_cause == 0) p.max_same_cause = 2;
  return p;
}

// Errors of execve and chdir that no time heals. EAGAIN, ENOMEM, EMFILE, ENFILE, ETXTBSY and EIO may be gone when it is
// tried again. 126 and 127 are how a shell says the same.
bool never_starts(const incident &i) {
  if (i.kind != incident_kind::start) return false;
  switch (i.code) {
    case ENOENT:
    case EACCES:
    case EPERM:
    case ENOEXEC:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case E2BIG:
    case EINVAL:
    case ELIBBAD:
    case 126:
    case 127:
      return true;
    default:
      return false;
  }
}

// min * 2^(n - 1) after n incidents without progress, as far as the limit and 64 bits go.
int64_t delay(const policy &p, uint64_t without_progress) {
  const int64_t most = p.max_delay_ns == 0 ? INT64_MAX : p.max_delay_ns;
  int64_t d = std::min(p.min_delay_ns, most);
  for (uint64_t i = 1; i < without_progress && d != 0 && d != most; ++i) d = d > most / 2 ? most : d * 2;
  return d;
}

std::string signal_text(int32_t number) {
  switch (number) {
    case SIGKILL:
      return "SIGKILL";
    case SIGTERM:
      return "SIGTERM";
    case SIGSEGV:
      return "SIGSEGV";
    case SIGABRT:
      return "SIGABRT";
    case SIGBUS:
      return "SIGBUS";
    case SIGINT:
      return "SIGINT";
    default:
      return fmt::format("signal {}", number);
  }
}

std::string start_text(const incident &i) {
  if (i.code == 0) return fmt::format("rank {} never joined", i.rank);
  if (i.code == 126) return fmt::format("the command of rank {} is not executable", i.rank);
  if (i.code == 127) return fmt::format("the command of rank {} was not found", i.rank);
  return fmt::format("rank {} could not be started (errno {})", i.rank, i.code);
}

std::string text_of(const incident &i) {
  switch (i.kind) {
    case incident_kind::exit:
      return fmt::format("rank {} ended with exit code {}", i.rank, i.code);
    case incident_kind::signal:
      return fmt::format("rank {} was killed by {}", i.rank, signal_text(i.code));
    case incident_kind::hang:
      return fmt::format("rank {} made no progress in its time", i.rank);
    case incident_kind::start:
      return start_text(i);
    case incident_kind::memory:
      return fmt::format("rank {} was killed because memory was out", i.rank);
    case incident_kind::node:
      return fmt::format("the node or a device of rank {} is gone", i.rank);
    case incident_kind::early:
      return fmt::format("rank {} ended while others went on", i.rank);
  }
  return fmt::format("rank {} had an incident", i.rank);
}

std::string place_text(uint64_t step) {
  return step == 0 ? std::string("from the beginning: there is no checkpoint yet")
                   : fmt::format("from the checkpoint of step {}", step);
}

result<> check(std::span<const incident> history, const policy &p) {
  if (history.empty()) return fail(reason::HistoryBad, "the history is empty: pass the incident that asks");
  if (history.size() > most_incidents)
    return fail(reason::OverBound, "the history has {} incidents; {} are the most", history.size(), most_incidents);
  for (std::size_t i = 0; i < history.size(); ++i) {
    if (static_cast<int32_t>(history[i].kind) <= 0)
      return fail(reason::HistoryBad, "history[{}].kind is {}: THOLE_INCIDENT_* begin at 1", i,
                  static_cast<int32_t>(history[i].kind));
    if (i > 0 && history[i].attempt < history[i - 1].attempt)
      return fail(reason::HistoryBad, "history[{}] is of attempt {}, after one of attempt {}: pass the oldest first", i,
                  history[i].attempt, history[i - 1].attempt);
  }
  if (p.min_delay_ns < 0 || p.max_delay_ns < 0 || (p.max_delay_ns != 0 && p.max_delay_ns < p.min_delay_ns))
    return fail(reason::ArgumentBad, "policy: min_delay_ns is {} and max_delay_ns {}; 0 <= min <= max is expected",
                p.min_delay_ns, p.max_delay_ns);
  return {};
}

}  // namespace

result<decision> decide(std::span<const incident> history, const policy &limits) {
  THOLE_TRY(check(history, limits));
  const policy p = with_defaults(limits);
  const tally t = count(history);
  const incident &last = history.back();
  decision d;
  d.without_progress = static_cast<uint32_t>(t.without_progress);
  const auto stop = [&](reason why, std::string because) {
    d.what = action::stop;
    d.why = why;
    d.message = fmt::format("{} in attempt {}: {}", text_of(last), last.attempt, because);
    return d;
  };
  if (never_starts(last)) return stop(reason::StopCannotStart, "trying again would not help; correct the command");
  if (t.same_cause >= p.max_same_cause)
    return stop(reason::StopSameCause, fmt::format("failure {} in a row of one cause, without progress beyond step {}; "
                                                   "the limit is {}",
                                                   t.same_cause, last.step, p.max_same_cause));
  if (t.without_progress >= p.max_without_progress)
    return stop(reason::StopNoProgress,
                fmt::format("incident {} in a row without progress beyond step {}; the limit is {}", t.without_progress,
                            last.step, p.max_without_progress));
  if (t.incidents >= p.max_incidents)
    return stop(reason::StopIncidentLimit,
                fmt::format("incident {} of the job; the limit is {}", t.incidents, p.max_incidents));
  d.what = action::restart;
  d.delay_ns = delay(p, t.without_progress);
  d.why = reason::RestartAfterIncident;
  d.message = fmt::format("{} in attempt {}: starting again {}", text_of(last), last.attempt, place_text(last.step));
  return d;
}

}  // namespace thole::recovery
