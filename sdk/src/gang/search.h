// gang/search.h: places for a whole gang, on the ledger as it is.
//
// What is looked for, in this order; what comes first is never given up for what comes later:
//   1. all minima are placed, within the required domains;
//   2. the gang's domain is as narrow as its preference asks;
//   3. then the domain of each role, role by role in the order given;
//   4. then each role has as many members as fit, role by role in the order given;
//   5. best fit: of domains that do, the one with the least room, and in it the nodes with the least room first; ties
//   by
//      the order of domains, nodes and devices.
// A gang of one role is decided by counting, exactly. Between several roles a quick try (the role with the least room
// first) is followed by an exact search, bounded by what it explores.
#pragma once

#include <vector>

#include "gang/cover.h"
#include "gang/fits.h"
#include "gang/ledger.h"

namespace thole::gang {

struct wanted_role {
  model::member_want want;
  uint32_t least = 0;
  uint32_t most = 0;
  uint32_t ranks = 1;
  int widest = model::cluster_level;     // required
  int narrowest = model::cluster_level;  // preferred; not wider than `widest`
};

struct wanted {
  std::vector<wanted_role> roles;
  int widest = model::cluster_level;
  int narrowest = model::cluster_level;
};

// A member that has found its place.
struct piece {
  uint32_t role = 0;
  uint32_t node = 0;
  uint32_t first_grant = 0;
  uint32_t grants = 0;
};

struct found {
  std::vector<piece> pieces;
  std::vector<model::grant> grants;
};

constexpr uint64_t most_explored = 1u << 18;

class search {
 public:
  search(ledger &state, fit_memory &memory, const wanted &what, uint64_t bound = most_explored);

  // The ledger is afterwards as it was before.
  verdict run();
  const found &result() const noexcept { return found_; }

  // Whether the minima fit with the required domains of the gang, of the roles, of both or of none.
  verdict minima_fit(bool gang_topology, bool role_topology);
  // Only the domain of one role is asked for.
  verdict minima_fit_with(std::size_t role);

  // How many members of all minima go into the domain, taken role by role; short_of is the first that is not complete.
  struct partial {
    uint32_t members = 0;
    uint32_t domain = 0;
    std::size_t short_of = 0;
  };
  partial best_partial(int level);
  // The domain of `level` with most room for one role.
  partial best_partial_of(std::size_t role, int level);

 private:
  struct target {
    int level;                      // of the gang
    std::vector<int> levels;        // of each role
    std::vector<uint32_t> members;  // of each role
  };

  const fit_index &index(std::size_t role) { return indices_[role]->follow(state_); }
  uint32_t fits(std::size_t role, uint32_t node) { return index(role).on(node); }
  bool alone() const noexcept { return what_.roles.size() == 1; }
  target minima() const;
  // Of several roles, found_ has the places of the last yes.
  verdict feasible(const target &t);
  uint32_t tightest_domain(const target &t);  // for the role that is alone; ledger::no_node
  void place_alone(const target &t);
  verdict inside(const target &t, uint32_t domain);
  verdict try_greedy(const target &t, uint32_t domain, std::span<const std::size_t> order, std::size_t at,
                     effort &tries);
  verdict try_exact(const target &t, uint32_t domain, std::span<const std::size_t> order, std::size_t at);
  verdict split_exactly(const target &t, uint32_t domain);
  bool resources_suffice(const target &t, uint32_t domain) const;
  void fill(std::size_t role, int level, uint32_t domain, uint32_t members);

  // Domains of `level` in domain `above` of `above_level` with room for one and for `least`, in no order.
  struct candidate {
    uint64_t room;
    uint32_t domain;
    friend auto operator<=>(const candidate &, const candidate &) = default;
  };
  std::vector<candidate> candidates(std::size_t role, int level, int above_level, uint32_t above, uint64_t least);
  candidate widest(std::size_t role, int level);  // in the cluster; of equal ones the first
  partial partial_in(int level, uint32_t domain);
  void tighten(target &t);
  void grow(target &t);

  ledger &state_;
  const wanted &what_;
  std::vector<fit_index *> indices_;
  effort budget_;
  found found_;  // the last yes
  found trying_;
  std::vector<uint32_t> chosen_;  // domain of each role in try_exact
};

}  // namespace thole::gang
