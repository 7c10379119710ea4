// checkpoint/listing.h: everything that is in a run's folder, and what of it can go.
#pragma once

#include "checkpoint/history.h"

namespace thole::checkpoint {

enum class status_of : int32_t { committed = 1, incomplete = 2, fenced = 3, damaged = 4 };

struct listed {
  candidate where;
  status_of state = status_of::incomplete;
  uint32_t parts_present = 0;
  bool fresh = false;
  uint64_t sequence = 0;
  uint64_t bytes = 0;
  uint64_t file_bytes = 0;
  int64_t committed_unix_ns = 0;
  std::string place;
  std::string why;
};

// Newest first. Without a key, by names and clear headers.
result<std::vector<listed>> list(target &t);

// Deletes all but the `keep` newest committed checkpoints and what can no longer become one. Answers how many.
result<uint64_t> retire(target &t, uint32_t keep);

}  // namespace thole::checkpoint
