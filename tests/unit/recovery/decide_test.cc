#include "recovery/decide.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <random>
#include <vector>

namespace thole::recovery {
namespace {

using history = std::vector<incident>;

incident at(uint64_t attempt, uint64_t step, uint64_t cause = 0, incident_kind kind = incident_kind::exit,
            int32_t code = 1) {
  return {kind, 2, code, attempt, step, {0, cause}};
}

decision decided(const history &h, const policy &p = {}) {
  auto d = decide(h, p);
  EXPECT_TRUE(d) << d.error().text();
  return d ? *d : decision{};
}

// n incidents, each made by `one(number)`, and whether the last of them is answered with a restart.
template <class Make>
reason answer_after(uint64_t n, const policy &p, Make one) {
  history h;
  for (uint64_t i = 1; i <= n; ++i) h.push_back(one(i));
  return decided(h, p).why;
}

TEST(Decide, EachBoundIsReachedExactly) {
  const auto going_on = [](uint64_t i) { return at(i, i * 10, i); };
  const auto stuck = [](uint64_t i) { return at(i, 0, i); };
  const auto same = [](uint64_t i) { return at(i, 0, 7); };
  const policy wide = {1000, 1000, 1000, 0, 0};
  for (uint32_t bound : {1u, 2u, 3u, 7u, 100u}) {
    policy p = wide;
    p.max_incidents = bound;
    if (bound > 1) {
      EXPECT_EQ(answer_after(bound - 1, p, going_on), reason::RestartAfterIncident);
    }
    EXPECT_EQ(answer_after(bound, p, going_on), reason::StopIncidentLimit);
    EXPECT_EQ(answer_after(bound + 1, p, going_on), reason::StopIncidentLimit);
    p = wide;
    p.max_without_progress = bound;
    if (bound > 1) {
      EXPECT_EQ(answer_after(bound - 1, p, stuck), reason::RestartAfterIncident);
    }
    EXPECT_EQ(answer_after(bound, p, stuck), reason::StopNoProgress);
    EXPECT_EQ(answer_after(bound + 1, p, stuck), reason::StopNoProgress);
    p = wide;
    p.max_same_cause = bound;
    if (bound > 1) {
      EXPECT_EQ(answer_after(bound - 1, p, same), reason::RestartAfterIncident);
    }
    EXPECT_EQ(answer_after(bound, p, same), reason::StopSameCause);
    EXPECT_EQ(answer_after(bound + 1, p, same), reason::StopSameCause);
  }
}

TEST(Decide, DefaultsAreTheHeaders) {
  EXPECT_EQ(answer_after(99, {}, [](uint64_t i) { return at(i, i, i); }), reason::RestartAfterIncident);
  EXPECT_EQ(answer_after(100, {}, [](uint64_t i) { return at(i, i, i); }), reason::StopIncidentLimit);
  EXPECT_EQ(answer_after(2, {}, [](uint64_t i) { return at(i, 0); }), reason::RestartAfterIncident);
  EXPECT_EQ(answer_after(3, {}, [](uint64_t i) { return at(i, 0); }), reason::StopNoProgress);
  EXPECT_EQ(answer_after(1, {}, [](uint64_t i) { return at(i, 0, 7); }), reason::RestartAfterIncident);
  EXPECT_EQ(answer_after(2, {}, [](uint64_t i) { return at(i, 0, 7); }), reason::StopSameCause);
}

TEST(Decide, ProgressGivesBackAndAnotherCauseBreaksTheRow) {
  EXPECT_EQ(decided({at(1, 10, 7), at(2, 20, 7), at(3, 30, 7), at(4, 40, 7)}).why, reason::RestartAfterIncident);
  EXPECT_EQ(decided({at(1, 10, 7), at(2, 10, 8)}).why, reason::RestartAfterIncident);
  EXPECT_EQ(decided({at(1, 10, 7), at(2, 10, 8), at(3, 10, 7)}).why, reason::RestartAfterIncident);
  EXPECT_EQ(decided({at(1, 10, 7), at(2, 10, 0), at(3, 10, 7)}).why, reason::RestartAfterIncident);
  EXPECT_EQ(decided({at(1, 10, 0), at(2, 10, 0)}).why, reason::RestartAfterIncident);  // two that nobody knows
  EXPECT_EQ(decided({at(1, 0), at(2, 0), at(3, 10), at(4, 10), at(5, 10)}).without_progress, 2u);
  EXPECT_EQ(decided({at(1, 0), at(2, 0), at(3, 10)}).without_progress, 0u);
}

TEST(Decide, AStepThatWasLostAndReachedAgainIsNoProgress) {
  EXPECT_EQ(decided({at(1, 20), at(2, 10), at(3, 20), at(4, 10)}).why, reason::StopNoProgress);
}

TEST(Decide, WhatCanNeverStartStopsAtOnce) {
  int stopped = 0;
  for (int32_t code :
       {ENOENT, EACCES, EPERM, ENOEXEC, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG, E2BIG, EINVAL, ELIBBAD, 126, 127}) {
    const decision d = decided({at(1, 50, 3, incident_kind::start, code)});
    EXPECT_EQ(d.why, reason::StopCannotStart) << code;
    EXPECT_EQ(d.what, action::stop);
    ++stopped;
    EXPECT_EQ(decided({at(1, 50, 3, incident_kind::exit, code)}).what, action::restart) << code;
  }
  for (int32_t code : {0, EAGAIN, ENOMEM, EMFILE, ENFILE, ETXTBSY, EIO})
    EXPECT_EQ(decided({at(1, 50, 3, incident_kind::start, code)}).what, action::restart) << code;
  std::printf("%d of 13 errors of a start stop at once\n", stopped);
}

TEST(Decide, DelaysDoubleUpToTheLimit) {
  const policy p = {1000, 1000, 1000, 10, 75};
  history h;
  std::vector<int64_t> delays;
  for (uint64_t i = 1; i <= 6; ++i) {
    h.push_back(at(i, 0));
    delays.push_back(decided(h, p).delay_ns);
  }
  EXPECT_EQ(delays, (std::vector<int64_t>{10, 20, 40, 75, 75, 75}));
  h.push_back(at(7, 5));
  EXPECT_EQ(decided(h, p).delay_ns, 10);
  EXPECT_EQ(decided({at(1, 0)}).delay_ns, 0);
  h.assign(900, at(1, 0));
  EXPECT_EQ(decided(h, {1000, 1000, 1000, 3, 0}).delay_ns, INT64_MAX);
}

TEST(Decide, RefusesWhatIsNoHistory) {
  EXPECT_EQ(decide({}, {}).error().why, reason::HistoryBad);
  EXPECT_EQ(decide(history{at(2, 0), at(1, 0)}, {}).error().why, reason::HistoryBad);
  EXPECT_EQ(decide(history{at(1, 0, 0, static_cast<incident_kind>(0))}, {}).error().why, reason::HistoryBad);
  EXPECT_TRUE(decide(history{at(1, 0, 0, static_cast<incident_kind>(99))}, {}));  // of a newer host
  EXPECT_TRUE(decide(history{at(1, 0), at(1, 0)}, {}));
  EXPECT_EQ(decide(history{at(1, 0)}, {0, 0, 0, -1, 0}).error().why, reason::ArgumentBad);
  EXPECT_EQ(decide(history{at(1, 0)}, {0, 0, 0, 2, 1}).error().why, reason::ArgumentBad);
  EXPECT_EQ(decide(history(most_incidents + 1, at(1, 0)), {}).error().why, reason::OverBound);
  EXPECT_TRUE(decide(history(most_incidents, at(1, 0)), {}));
}

TEST(Decide, TheSentenceNamesRankAttemptAndStep) {
  EXPECT_EQ(decided({at(1, 50, 0, incident_kind::signal, 9)}).message,
            "rank 2 was killed by SIGKILL in attempt 1: starting again from the checkpoint of step 50");
  EXPECT_EQ(
      decided({at(1, 0)}).message,
      "rank 2 ended with exit code 1 in attempt 1: starting again from the beginning: there is no checkpoint yet");
  EXPECT_EQ(
      decided({at(1, 50, 7), at(2, 50, 7)}).message,
      "rank 2 ended with exit code 1 in attempt 2: failure 2 in a row of one cause, without progress beyond step 50; "
      "the limit is 2");
}

// What the decision must come to, told a second way: by looking back from the end instead of counting forward.
bool must_stop(const history &h, const policy &p) {
  const incident &last = h.back();
  if (last.kind == incident_kind::start && (last.code == ENOENT || last.code == EACCES)) return true;
  const auto progress = [&](std::size_t i) {
    for (std::size_t j = 0; j < i; ++j)
      if (h[j].step >= h[i].step) return false;
    return h[i].step > 0;
  };
  uint64_t stuck = 0;
  for (std::size_t i = h.size(); i > 0 && !progress(i - 1); --i) ++stuck;
  uint64_t same = last.cause ? 1 : 0;
  for (std::size_t i = h.size(); same > 0 && i > 1 && h[i - 2].cause == last.cause && !progress(i - 1); --i) ++same;
  return h.size() >= p.max_incidents || stuck >= p.max_without_progress || same >= p.max_same_cause;
}

// A platform that always obeys, and a job that fails at random. Each run ends by itself.
TEST(Decide, RandomHistoriesStop) {
  constexpr int runs = 100'000;
  std::mt19937_64 random(20'240'601);
  const auto below = [&](uint64_t n) { return random() % n; };
  uint64_t by_reason[5] = {};
  uint64_t decisions = 0;
  for (int run = 0; run < runs; ++run) {
    const policy p = {static_cast<uint32_t>(1 + below(20)), static_cast<uint32_t>(1 + below(6)),
                      static_cast<uint32_t>(1 + below(4)), 0, 0};
    const uint64_t luck = 1 + below(12);  // how likely progress is
    history h;
    uint64_t step = 0;
    uint64_t restarts = 0;
    for (uint64_t attempt = 1;; ++attempt) {
      if (below(12) < luck) step += below(3) * 10;
      else if (below(8) == 0) step /= 2;  // checkpoints were lost
      h.push_back(at(attempt, step, below(4), below(40) == 0 ? incident_kind::start : incident_kind::exit,
                     below(2) == 0 ? ENOENT : 0));
      const decision d = decided(h, p);
      const decision again = decided(history(h), policy(p));
      ++decisions;
      ASSERT_EQ(d.what, again.what);
      ASSERT_EQ(d.message, again.message);
      ASSERT_EQ(d.delay_ns, again.delay_ns);
      ASSERT_EQ(d.what == action::stop, must_stop(h, p)) << "run " << run << ": " << d.message;
      if (d.what == action::stop) {
        by_reason[d.why == reason::StopCannotStart     ? 0
                  : d.why == reason::StopSameCause     ? 1
                  : d.why == reason::StopNoProgress    ? 2
                  : d.why == reason::StopIncidentLimit ? 3
                                                       : 4] += 1;
        break;
      }
      ++restarts;
      ASSERT_LT(restarts, p.max_incidents);
    }
  }
  std::printf(
      "%d of %d random runs stopped, %llu decisions; cannot start %llu, same cause %llu, no progress %llu, "
      "incident limit %llu\n",
      runs, runs, static_cast<unsigned long long>(decisions), static_cast<unsigned long long>(by_reason[0]),
      static_cast<unsigned long long>(by_reason[1]), static_cast<unsigned long long>(by_reason[2]),
      static_cast<unsigned long long>(by_reason[3]));
  EXPECT_EQ(by_reason[4], 0u);
  for (int i = 0; i < 4; ++i) EXPECT_GE(by_reason[i], 1000u);
}

}  // namespace
}  // namespace thole::recovery
