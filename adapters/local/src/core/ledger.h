// core/ledger.h: this platform's use of the one ledger of devices: what there is, who holds what, and why not.
#pragma once

#include <string>
#include <vector>

#include "core/documents.h"
#include "core/gpu_lock.h"
#include "core/library.h"
#include "state/job_state.h"

namespace thole::local {

struct pool_choice {
  std::string text;  // canonical NodePool; empty: this machine, whole
  std::string name;
  bool simulated = false;
};

// What explain says, as data.
struct explanation {
  bool fits = false;
  bool decided = true;
  json details = json::object();
  std::string reason;
  std::string message;
};

class ledger {
 public:
  // Opens the ledger of a pool and brings its nodes up to date. One process at a time is inside: the gate is held as
  // long as the object lives. Fails: NoDriver, ..., PoolDoesNotFit, LevelsDiffer.
  static result<ledger> open(const layout &l, const pool_choice &pool, const std::string &metrics_file,
                             bool needs_devices);

  // What would be placed. Changes nothing.
  result<std::vector<member_state>> plan(const std::string &job_text, thole_id gang);
  // Plans, reserves and confirms. For real devices it takes the machine's locks: GpuHeldByOther.
  result<std::vector<member_state>> place(const std::string &job_text, thole_id gang);
  result<explanation> explain(const std::string &job_text, thole_id gang);
  result<json> usage();
  result<std::vector<thole_id>> gangs();
  result<> release(thole_id gang);

  // The gate is given up once a gang is placed; the ledger itself stays open for the life of the job.
  void leave_gate() { gate_.release(); }
  library &core() { return *core_; }
  const std::string &name() const noexcept { return name_; }
  std::unique_ptr<library> take_core() { return std::move(core_); }
  gpu_locks take_locks() { return std::move(gpus_); }

 private:
  result<> set_nodes(const pool_choice &pool, bool needs_devices);
  result<> remove_other_nodes(const thole_list &nodes);
  std::string name_;
  std::string folder_;
  bool real_ = false;
  file_lock gate_;
  std::unique_ptr<library> core_;
  gpu_locks gpus_;
};

std::string ledger_name(const pool_choice &pool);

// The folder that device plugins are loaded from: $THOLE_PLUGINS, or thole/plugins beside the library.
std::string plugin_folder();

}  // namespace thole::local
