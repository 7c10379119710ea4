// The recovery service from outside: a history in, a decision out. The call is pure and made with no core at all.
#include "host.h"

namespace {

using namespace host;

thole_incident incident(thole_incident_kind kind, uint64_t attempt, uint64_t step, thole_id cause = {}) {
  auto one = sized<thole_incident>();
  one.kind = kind;
  one.rank = 2;
  one.code = kind == THOLE_INCIDENT_SIGNAL ? 9 : 1;
  one.attempt = attempt;
  one.step = step;
  one.cause = cause;
  return one;
}

struct decided {
  lent memory;
  thole_decision answer = sized<thole_decision>();
  thole_status status = sized<thole_status>();
  thole_code code;
  explicit decided(const std::vector<thole_incident> &history,
                   const thole_recovery_policy &policy = sized<thole_recovery_policy>()) {
    const thole_list all = list(history);
    code = root()->recovery->decide({}, &all, &policy, &answer, &memory.room, &status);
  }
  std::string why() const { return text(answer.reason); }
};

TEST(recovery, a_first_incident_starts_the_job_again_and_names_the_rank) {
  const decided d({incident(THOLE_INCIDENT_SIGNAL, 1, 50)});
  ASSERT_EQ(d.code, THOLE_OK) << d.status.message;
  EXPECT_EQ(d.answer.action, THOLE_RECOVERY_RESTART);
  EXPECT_EQ(d.why(), "RestartAfterIncident");
  EXPECT_EQ(d.answer.delay_ns, 0);
  const std::string message = text(d.answer.message);
  EXPECT_NE(message.find("rank 2 was killed by SIGKILL"), std::string::npos) << message;
  EXPECT_NE(message.find("step 50"), std::string::npos) << message;
}

TEST(recovery, every_way_to_stop_has_its_reason) {
  auto never = incident(THOLE_INCIDENT_START, 1, 0);
  never.code = 2;  // ENOENT
  EXPECT_EQ(decided({never}).why(), "StopCannotStart");

  const thole_id cause{7, 7};
  const decided same({incident(THOLE_INCIDENT_EXIT, 1, 10, cause), incident(THOLE_INCIDENT_EXIT, 2, 10, cause)});
  EXPECT_EQ(same.answer.action, THOLE_RECOVERY_STOP);
  EXPECT_EQ(same.why(), "StopSameCause");

  std::vector<thole_incident> history = {incident(THOLE_INCIDENT_SIGNAL, 1, 10)};
  for (uint64_t attempt = 2; decided(history).answer.action == THOLE_RECOVERY_RESTART; ++attempt) {
    ASSERT_LT(attempt, 10u);
    history.push_back(incident(THOLE_INCIDENT_SIGNAL, attempt, 10));
  }
  const decided stuck(history);
  EXPECT_EQ(stuck.why(), "StopNoProgress");
  EXPECT_EQ(stuck.answer.without_progress, 3u);

  history.clear();
  auto policy = sized<thole_recovery_policy>();
  policy.max_incidents = 5;
  for (uint64_t attempt = 1; attempt <= 5; ++attempt) {
    history.push_back(incident(THOLE_INCIDENT_HANG, attempt, attempt * 10));
    const decided d(history, policy);
    EXPECT_EQ(d.why(), attempt < 5 ? "RestartAfterIncident" : "StopIncidentLimit") << attempt;
  }
}

TEST(recovery, the_delay_doubles_up_to_its_limit) {
  auto policy = sized<thole_recovery_policy>();
  policy.max_without_progress = 10;
  policy.min_delay_ns = 1000;
  policy.max_delay_ns = 5000;
  std::vector<thole_incident> history = {incident(THOLE_INCIDENT_NODE, 1, 10)};
  for (const int64_t expected : {1000, 1000, 2000, 4000, 5000, 5000}) {
    const decided d(history, policy);
    EXPECT_EQ(d.answer.delay_ns, expected) << history.size();
    history.push_back(incident(THOLE_INCIDENT_NODE, history.size() + 1, 10));
  }
}

TEST(recovery, a_history_that_is_none_is_refused) {
  EXPECT_STREQ(decided({}).status.reason, "HistoryBad");
  EXPECT_STREQ(decided({incident(THOLE_INCIDENT_EXIT, 2, 0), incident(THOLE_INCIDENT_EXIT, 1, 0)}).status.reason,
               "HistoryBad");
  EXPECT_STREQ(decided({incident(0, 1, 0)}).status.reason, "HistoryBad");
  for (const auto &[least, most] : {std::pair{-1, 0}, {0, -1}, {5, 4}}) {
    auto policy = sized<thole_recovery_policy>();
    policy.min_delay_ns = least;
    policy.max_delay_ns = most;
    const decided d({incident(THOLE_INCIDENT_EXIT, 1, 0)}, policy);
    EXPECT_EQ(d.code, THOLE_INVALID);
    EXPECT_STREQ(d.status.reason, "ArgumentBad");
  }
}

TEST(recovery, the_bound_of_a_history_is_tested_at_its_edge) {
  std::vector<thole_incident> history;
  for (uint64_t i = 0; i < 100'000; ++i) history.push_back(incident(THOLE_INCIDENT_EXIT, i + 1, i));
  EXPECT_EQ(decided(history).code, THOLE_OK);
  history.push_back(history.back());
  const decided over(history);
  EXPECT_EQ(over.code, THOLE_INVALID);
  EXPECT_STREQ(over.status.reason, "OverBound");
}

TEST(recovery, the_same_history_gives_the_same_answer) {
  const std::vector<thole_incident> history = {incident(THOLE_INCIDENT_SIGNAL, 1, 10),
                                               incident(THOLE_INCIDENT_MEMORY, 2, 20)};
  const decided first(history);
  for (int i = 0; i < 100; ++i) {
    const decided again(history);
    ASSERT_EQ(again.answer.action, first.answer.action);
    ASSERT_EQ(text(again.answer.message), text(first.answer.message));
  }
}

}  // namespace
