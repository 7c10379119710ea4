// core.h: an open core, behind the contract.
#pragma once

#ifndef THOLE_ENABLE_DRAFT
#define THOLE_ENABLE_DRAFT
#endif
#include <thole/draft/device.h>
#include <thole/draft/job.h>
#include <thole/draft/recovery.h>
#include <thole/thole.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "problem.h"

namespace thole::slurm {

inline std::string own(thole_str s) {
  return s.len == 0 ? std::string() : std::string(s.data, s.len);
}
inline thole_str borrow(std::string_view s) noexcept {
  return {s.data(), s.size()};
}
template <class T>
T sized() {
  T t{};
  t.struct_size = sizeof t;
  return t;
}

class core {
 public:
  static result<std::unique_ptr<core>> open();
  ~core();
  core(const core &) = delete;
  core &operator=(const core &) = delete;

  const thole_root &root() const noexcept { return *root_; }
  thole_core handle() const noexcept { return handle_; }
  static std::string version();

 private:
  core() = default;
  const thole_root *root_ = nullptr;
  thole_core handle_{};
};

// Calls f(thole_status *).
template <class F>
result<> call(F &&f) {
  auto status = sized<thole_status>();
  const thole_code code = f(&status);
  if (code != THOLE_OK) return tl::unexpected(make_problem(status, code));
  return {};
}

// Calls f(thole_buffer *, thole_status *) with memory that grows until the answer fits.
template <class F>
result<> call_with_room(std::vector<uint64_t> &room, F &&f) {
  if (room.empty()) room.resize(1024);
  for (;;) {
    thole_buffer buffer{room.data(), room.size() * 8, 0};
    auto status = sized<thole_status>();
    const thole_code code = f(&buffer, &status);
    if (code == THOLE_OK) return {};
    if (code != THOLE_TOO_SMALL) return tl::unexpected(make_problem(status, code));
    room.assign(std::max<uint64_t>(buffer.used / 8 + 1, room.size() * 2), 0);
  }
}

// A run of checkpoints: its folder, id and key's file.
struct run_store {
  std::string folder;
  std::string run;
  std::string key;
};
result<uint64_t> newest_step(const core &c, const run_store &s);  // 0: there is none
result<> retire(const core &c, const run_store &s, uint32_t keep);

std::string new_run();  // a random UUID

}  // namespace thole::slurm
