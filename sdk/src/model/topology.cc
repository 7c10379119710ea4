#include "model/topology.h"

#include <thole/gang.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace thole::model {

result<> check_levels(std::span<const std::string> names) {
  if (names.size() > THOLE_MAX_LEVELS)
    return fail(reason::OverBound, "{} levels are named; {} are the most", names.size(), THOLE_MAX_LEVELS);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) return fail(reason::ArgumentBad, "level {} has no name", i);
    if (names[i] == "node" || names[i] == "cluster")
      return fail(reason::ArgumentBad, "the level {} is always there: do not name it", names[i]);
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
        names.begin() + static_cast<std::ptrdiff_t>(i))
      return fail(reason::ArgumentBad, "the level {} is named twice", names[i]);
  }
  return {};
}

topology::topology(std::vector<std::string> levels, std::span<const std::vector<std::string> *const> domains)
    : levels_(std::move(levels)), of_(levels_.size()), order_(domains.size()), all_(domains.size()) {
  std::iota(all_.begin(), all_.end(), 0u);
  std::vector<uint32_t> above(domains.size(), 0);
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    one_level &at = of_[l];
    at.domain.resize(domains.size());
    std::map<std::pair<uint32_t, std::string_view>, uint32_t> known;  // ids in the order of first nodes
    for (std::size_t n = 0; n < domains.size(); ++n) {
      const std::string &name = (*domains[n])[l];
      // Neighbours by name are often neighbours in the rack, too.
      if (n > 0 && above[n] == above[n - 1] && name == (*domains[n - 1])[l]) {
        at.domain[n] = at.domain[n - 1];
        continue;
      }
      const auto [it, fresh] = known.try_emplace({above[n], name}, static_cast<uint32_t>(at.names.size()));
      if (fresh) at.names.push_back(l == 0 ? name : of_[l - 1].names[above[n]] + "/" + name);
      at.domain[n] = it->second;
    }
    at.begin.assign(at.names.size() + 1, 0);
    for (uint32_t d : at.domain) ++at.begin[d + 1];
    std::partial_sum(at.begin.begin(), at.begin.end(), at.begin.begin());
    at.nodes.resize(domains.size());
    std::vector<uint32_t> next(at.begin.begin(), at.begin.end() - 1);
    for (uint32_t n = 0; n < domains.size(); ++n) at.nodes[next[at.domain[n]]++] = n;
    above = at.domain;
  }
  std::vector<uint32_t> sorted = all_;
  std::sort(sorted.begin(), sorted.end(), [&](uint32_t a, uint32_t b) {
    for (const one_level &at : of_)
      if (at.domain[a] != at.domain[b]) return at.domain[a] < at.domain[b];
    return a < b;
  });
  for (uint32_t i = 0; i < sorted.size(); ++i) order_[sorted[i]] = i;
}

std::optional<int> topology::level(std::string_view name) const noexcept {
  if (name == "node") return node_level();
  for (std::size_t i = 0; i < levels_.size(); ++i)
    if (levels_[i] == name) return static_cast<int>(i);
  return std::nullopt;
}

std::string_view topology::level_name(int level) const noexcept {
  if (level == cluster_level) return "cluster";
  return level == node_level() ? std::string_view("node") : levels_[static_cast<std::size_t>(level)];
}

uint32_t topology::count(int level) const noexcept {
  if (level == cluster_level) return 1;
  return level == node_level() ? nodes() : static_cast<uint32_t>(of_[static_cast<std::size_t>(level)].names.size());
}

std::span<const uint32_t> topology::members(int level, uint32_t domain) const noexcept {
  if (level == cluster_level) return all_;
  if (level == node_level()) return std::span(all_).subspan(domain, 1);
  const one_level &at = of_[static_cast<std::size_t>(level)];
  return std::span(at.nodes).subspan(at.begin[domain], at.begin[domain + 1] - at.begin[domain]);
}

std::string_view topology::domain_name(int level, uint32_t domain) const noexcept {
  if (level < 0 || level >= node_level()) return {};
  return of_[static_cast<std::size_t>(level)].names[domain];
}

}  // namespace thole::model
