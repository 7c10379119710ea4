// core/library.h: the core as this platform uses it: one root table, one core, and answers of variable size.
#pragma once

#ifndef THOLE_ENABLE_DRAFT
#define THOLE_ENABLE_DRAFT
#endif
#include <thole/draft/device.h>
#include <thole/draft/job.h>
#include <thole/draft/metrics.h>
#include <thole/draft/partition.h>
#include <thole/draft/recovery.h>
#include <thole/thole.h>

#include <memory>
#include <string>
#include <vector>

#include "base/problem.h"

namespace thole::local {

// Memory that is lent for an answer, and that keeps it alive.
class answer_room {
 public:
  thole_buffer *buffer() noexcept { return &buffer_; }
  void grow();

 private:
  std::vector<uint64_t> words_ = std::vector<uint64_t>(1024);
  thole_buffer buffer_{words_.data(), words_.size() * 8, 0};
};

// An open core. Its tables say what this build of the library has.
class library {
 public:
  struct options {
    std::string ledger;   // folder of the journal; empty: in memory
    std::string metrics;  // file; empty: in memory
  };
  static result<std::unique_ptr<library>> open(const options &o);
  ~library();
  library(const library &) = delete;
  library &operator=(const library &) = delete;

  const thole_root &root() const noexcept { return *root_; }
  thole_core core() const noexcept { return core_; }

  // A service's table, or ServiceMissing.
  result<const thole_gang_api *> gang() const { return service(root_->gang, "gang"); }
  result<const thole_checkpoint_api *> checkpoint() const { return service(root_->checkpoint, "checkpoint"); }
  result<const thole_job_api *> job() const { return service(root_->job, "job"); }
  result<const thole_device_api *> device() const { return service(root_->device, "device"); }
  result<const thole_partition_api *> partition() const { return service(root_->partition, "partition"); }
  result<const thole_metrics_api *> metrics() const { return service(root_->metrics, "metrics"); }
  result<const thole_recovery_api *> recovery() const { return service(root_->recovery, "recovery"); }

  // The library's own file, so that ranks use the same one.
  static std::string path();

 private:
  template <class T>
  static result<const T *> service(const T *table, const char *name) {
    if (table == nullptr) return fail(reason::ServiceMissing, "this build of libthole has no {} service", name);
    return table;
  }
  library() = default;
  const thole_root *root_ = nullptr;
  thole_core core_{};
};

// Calls f(thole_status *), which answers a code.
template <class F>
result<> call(F &&f) {
  thole_status status{};
  status.struct_size = sizeof status;
  const thole_code code = f(&status);
  if (code != THOLE_OK) return tl::unexpected(make_problem(status, code));
  return {};
}

// Calls f(thole_buffer *, thole_status *) with a room that grows until the answer fits.
template <class F>
result<> call_with_room(answer_room &room, F &&f) {
  for (;;) {
    thole_status status{};
    status.struct_size = sizeof status;
    const thole_code code = f(room.buffer(), &status);
    if (code == THOLE_OK) return {};
    if (code != THOLE_TOO_SMALL) return tl::unexpected(make_problem(status, code));
    room.grow();
  }
}

template <class T>
T sized() {
  T t{};
  t.struct_size = sizeof t;
  return t;
}

}  // namespace thole::local
