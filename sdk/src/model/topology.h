// model/topology.h: the tree of domains over the nodes. Level -1 is the cluster, 0..levels-1 are the named ones from
// the outermost, and `levels` is the node itself. A domain is named by its whole path: rack r1 of zone a is another
// than rack r1 of zone b.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thole::model {

constexpr int cluster_level = -1;

// Bounds, no name twice, none of the two that are always there.
result<> check_levels(std::span<const std::string> names);

class topology {
 public:
  topology() = default;
  // `domains[n]` are the names of node n, outermost first, as many as `levels`.
  topology(std::vector<std::string> levels, std::span<const std::vector<std::string> *const> domains);

  int node_level() const noexcept { return static_cast<int>(levels_.size()); }
  const std::vector<std::string> &levels() const noexcept { return levels_; }
  std::optional<int> level(std::string_view name) const noexcept;  // a named one, or "node"
  std::string_view level_name(int level) const noexcept;

  uint32_t nodes() const noexcept { return static_cast<uint32_t>(order_.size()); }
  uint32_t count(int level) const noexcept;  // domains of a level
  uint32_t domain(int level, uint32_t node) const noexcept {
    if (level == cluster_level) return 0;
    return level == node_level() ? node : of_[static_cast<std::size_t>(level)].domain[node];
  }
  // The nodes of a domain, ascending.
  std::span<const uint32_t> members(int level, uint32_t domain) const noexcept;
  // "zone-a/rack-3"; empty for the cluster and for nodes, whose names the ledger knows.
  std::string_view domain_name(int level, uint32_t domain) const noexcept;
  // A node's place when domains stand together: ranks that follow one another are near one another.
  uint32_t order(uint32_t node) const noexcept { return order_[node]; }

 private:
  struct one_level {
    std::vector<uint32_t> domain;  // of each node
    std::vector<std::string> names;
    std::vector<uint32_t> begin;  // of each domain in nodes; one more at the end
    std::vector<uint32_t> nodes;
  };
  std::vector<std::string> levels_;
  std::vector<one_level> of_;
  std::vector<uint32_t> order_;
  std::vector<uint32_t> all_;  // 0, 1, ...
};

}  // namespace thole::model
