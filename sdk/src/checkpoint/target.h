// checkpoint/target.h: a run's checkpoints: the store, the run, its key, and the keys that are found there.
#pragma once

#include "checkpoint/keys.h"
#include "checkpoint/store.h"

namespace thole::checkpoint {

struct target {
  std::unique_ptr<store> files;
  id128 run;
  std::optional<key_source> key;
  std::string anchor;  // path; empty: none

  std::string folder() const { return run_folder(run); }
};

// Fails: StoreGone.
result<> check_store_there(target &t);
// The store's folder and the run's, durable. Fails: StoreGone, if the anchor knows of a store where there is none.
result<> make_run_folder(target &t);

// The run's key. Empty optional: nothing was ever saved there.
result<std::optional<key_tree>> open_run_keys(target &t);
// The same; made if there is none, and durable.
result<key_tree> make_run_keys(target &t);

// The key of one checkpoint; made if `create`, else it must be there.
result<key_tree> checkpoint_keys(target &t, const key_tree &run_keys, const std::string &folder, id128 checkpoint,
                                 bool create);

}  // namespace thole::checkpoint
