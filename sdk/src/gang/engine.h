// gang/engine.h: the gang service: one ledger, its journal, and the transactions on it.
//
// Every call takes the engine's mutex for its whole length. With a state folder it also takes the folder's lock, and
// first reads what other processes have written, so that it decides on the present state. A change is written to the
// journal before it is made; a call whose record cannot be written has changed nothing. Without a journal, a call for
// which there is no memory has changed nothing either.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/journal.h"
#include "base/log.h"
#include "base/status.h"
#include "gang/explain.h"
#include "gang/records.h"
#include "gang/search.h"

namespace thole::gang {

struct device_use {
  std::string_view node;
  std::string_view uuid;
  std::string_view model;
  uint32_t flags = 0;
  uint32_t holders = 0;
  uint64_t memory_mib = 0;
  uint64_t free_memory_mib = 0;
  uint32_t free_share_milli = 0;
};

struct usage {
  uint64_t revision = 0;
  uint64_t digest = 0;
  std::vector<device_use> devices;
};

struct reservation {
  int64_t now_ns = 0;
  int64_t expires_ns = 0;  // 0: never
  bool adopt = false;      // it runs already: held as confirmed, whatever the state says
};

class engine {
 public:
  static constexpr uint64_t compact_above = 4u << 20;  // bytes of the journal

  static result<std::unique_ptr<engine>> open(const std::string &state_folder, const log_sink &log,
                                              uint64_t compact_from = compact_above);

  result<> set_levels(std::vector<std::string> levels);
  result<> set_nodes(std::vector<model::node> nodes);
  result<> remove_node(std::string_view name);

  // Requests have passed model::check. Texts of what is answered live as long as the engine.
  result<model::gang_plan> plan(const model::gang_request &request, int64_t now_ns);
  result<explanation> explain(const model::gang_request &request, int64_t now_ns);
  result<> reserve(const model::gang_request &request, const model::gang_plan &plan, const reservation &terms);
  result<> confirm(id128 gang, int64_t now_ns);
  result<> cancel(id128 gang);
  result<> release(id128 gang);
  // One gang (or all, if zero), on one node (or any, if empty).
  result<std::vector<model::gang_plan>> gangs(id128 gang, std::string_view node, int64_t now_ns);
  result<gang::usage> usage(std::string_view node, int64_t now_ns);

 private:
  engine(const log_sink &log, uint64_t compact_from) : log_(log), compact_from_(compact_from) {}

  template <class F>
  auto reading(F &&f) -> decltype(f());
  template <class F>
  result<> changing(F &&f);
  result<> catch_up(const journal::hold &held, journal::access how);
  result<> commit(const change &what);
  void compact();

  result<> check_nodes(const std::vector<model::node> &nodes) const;
  result<wanted> compile(const model::gang_request &request);
  result<std::pair<int, int>> compile_levels(const std::vector<model::nearness> &wishes, std::string_view whose) const;
  std::vector<id128> expired(int64_t now_ns) const;
  void give_back_expired(int64_t now_ns);
  const holding *live(id128 gang, int64_t now_ns) const;  // nullptr: nothing, or expired
  holding number(const wanted &what, const found &places) const;
  model::gang_plan describe(id128 gang, const holding &h) const;

  result<holding> locate(const model::gang_plan &plan, const wanted &what, bool adopt);
  result<> repeat(id128 gang, const holding &own, const reservation &terms);
  result<> check_domains(const wanted &what, const holding &h) const;
  result<> check_still_free(const holding &h);

  log_sink log_;
  uint64_t compact_from_;
  std::mutex mutex_;
  ledger state_;
  fit_memory memory_;
  empty_twin empty_;
  std::optional<journal> journal_;
  const journal::hold *held_ = nullptr;  // valid while changing() runs
  std::optional<error> broken_;          // why the journal can no longer be followed
  uint64_t compact_next_ = 0;
  std::string tell_;  // a line for the log, written after the locks are gone
};

template <class F>
auto engine::reading(F &&f) -> decltype(f()) {
  const std::lock_guard mutex(mutex_);
  if (broken_) return tl::unexpected(*broken_);
  if (journal_ && !journal_->is_current()) {
    THOLE_LET(const journal::hold held, journal_->lock(journal::access::read));
    THOLE_TRY(catch_up(held, journal::access::read));
  }
  return f();
}

template <class F>
result<> engine::changing(F &&f) {
  std::string line;
  auto done = [&]() -> result<> {
    const std::lock_guard mutex(mutex_);
    if (!journal_) return f();
    THOLE_LET(const journal::hold held, journal_->lock(journal::access::write));
    THOLE_TRY(catch_up(held, journal::access::write));
    held_ = &held;
    auto answer = f();
    line = std::exchange(tell_, {});
    return answer;
  }();
  if (!line.empty()) log_.write(THOLE_LOG_WARN, "gang", "{}", line);
  return done;
}

}  // namespace thole::gang
