// core/checkpoints.h: a run's checkpoints, as a platform uses them: fence, newest, retire, list, verify.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/documents.h"
#include "core/library.h"
#include "state/job_state.h"

namespace thole::local {

// Where a job's checkpoints lie, with all the memory that the C structs point to.
struct store_place {
  std::string folder;
  thole_id run{};
  std::string key_file;                 // or
  std::vector<std::string> key_helper;  // its argv
  std::string anchor;
};

// Who may make the key that a job names and no file binds: a run's first attempt, which says so. Later nobody could
// read with it what is there.
enum class missing_key { make, fail };

// Finds the folder and the key that a job's names are bound to on this platform, and makes the folder of a store that
// the file leaves unbound. Relative paths begin at `folder`, that of the job file. Fails: KeyMissing, StateUnwritable.
result<store_place> bind_store(const layout &l, const library &core, const std::string &job_text, const job_spec &spec,
                               const std::string &folder, thole_id run, missing_key without);

class checkpoints {
 public:
  checkpoints(const library &core, store_place place) : core_(core), place_(std::move(place)) {}
  const store_place &place() const noexcept { return place_; }

  struct newest {
    bool any = false;
    uint64_t step = 0;
  };
  // Publishes that an attempt begins, and what it starts from.
  result<newest> fence(uint64_t attempt) const;
  result<newest> newest_committed() const;
  result<uint64_t> retire(uint32_t keep) const;
  result<json> list(bool with_key) const;
  result<json> verify(const std::optional<uint64_t> &step) const;
  result<json> inspect(const std::optional<uint64_t> &step) const;

 private:
  template <class F>
  auto with_store(bool with_key, F &&f) const;
  const library &core_;
  store_place place_;
};

}  // namespace thole::local
