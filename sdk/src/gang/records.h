// gang/records.h: the lasting changes of the ledger as values, their bytes in the journal, and their effect.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gang/ledger.h"

namespace thole::gang {

struct levels_named {
  std::vector<std::string> levels;
};
struct nodes_described {
  std::vector<model::node> nodes;
};
struct node_removed {
  uint32_t node = 0;
};
struct gang_reserved {
  id128 gang;
  holding what;
  std::vector<id128> dropped;  // reservations that had expired, in the order of ids
};
struct gang_was_confirmed {
  id128 gang;
};
struct expiry_set {
  id128 gang;
  int64_t expires_ns = 0;
};
struct gang_dropped {
  id128 gang;
};
using change = std::variant<levels_named, nodes_described, node_removed, gang_reserved, gang_was_confirmed, expiry_set,
                            gang_dropped>;

// The bytes of a change that makes the ledger `revision`.
std::string encode(const change &what, uint64_t revision, const names &words);

// The bytes of the whole ledger.
std::string encode_snapshot(const ledger &state);

// Makes the change. It has been checked.
void apply(ledger &to, const change &what, uint64_t revision);

// What replay does with a record. Fails: StateNewer (it says what this version does not know), JournalDamaged (it does
// not go with the ledger).
result<> replay(ledger &to, std::string_view record);

}  // namespace thole::gang
