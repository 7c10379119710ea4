// thole/draft/recovery.h.
#include <thole/draft/recovery.h>

#include <vector>

#include "capi/args.h"
#include "capi/guard.h"
#include "capi/room.h"
#include "capi/tables.h"
#include "recovery/decide.h"

namespace thole {
namespace {

result<std::vector<recovery::incident>> take_history(const thole_list *given) {
  if (given == nullptr) return fail(reason::ArgumentMissing, "history is NULL");
  THOLE_TRY(check_list(*given, sizeof(uint64_t), recovery::most_incidents, "history"));
  std::vector<recovery::incident> history;
  history.reserve(given->count);
  for (uint64_t i = 0; i < given->count; ++i) {
    THOLE_LET(const thole_incident one, take_at<thole_incident>(*given, i, "history"));
    history.push_back(
        {static_cast<recovery::incident_kind>(one.kind), one.rank, one.code, one.attempt, one.step, from_c(one.cause)});
  }
  return history;
}

// The core is not looked at: what is pure needs none, and works in a forked child and after close.
thole_code decide(thole_core, const thole_list *given, const thole_recovery_policy *limits, thole_decision *decision,
                  thole_buffer *buffer, thole_status *status) {
  return guard(status, [&]() -> result<> {
    room r(buffer);
    THOLE_TRY(r.check());
    THOLE_LET(const auto history, take_history(given));
    THOLE_LET(const thole_recovery_policy p, take(limits, "policy"));
    THOLE_LET(const recovery::decision d,
              recovery::decide(history, {p.max_incidents, p.max_without_progress, p.max_same_cause, p.min_delay_ns,
                                         p.max_delay_ns}));
    thole_decision answer{};
    answer.action = static_cast<thole_recovery_action>(d.what);
    answer.without_progress = d.without_progress;
    answer.delay_ns = d.delay_ns;
    answer.reason = r.text(name_of(d.why));
    answer.message = r.text(d.message);
    THOLE_TRY(r.finish());
    return give(decision, answer, "decision");
  });
}

constexpr thole_recovery_api table = {sizeof(thole_recovery_api), decide};

}  // namespace

constinit const thole_recovery_api recovery_table = table;

}  // namespace thole
