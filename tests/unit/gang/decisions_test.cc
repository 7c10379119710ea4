// Decisions are the same for ever: on every compiler, at every optimisation, and after every change of the search. What
// a journal replays and what a plan says is pinned by digests that were recorded once.
#include <gtest/gtest.h>

#include <cstdio>
#include <deque>

#include "gang/engine.h"
#include "scenes.h"

namespace {

using namespace thole;
using namespace scenes;

constexpr int lives = 64;
constexpr int steps = 150;

// 24 to 63 nodes of the oracle's kinds, with three levels.
std::vector<node> many_nodes(dice &d) {
  std::vector<node> out;
  const uint32_t wanted = 24 + d.upto(39);
  while (out.size() < wanted)
    for (node &n : random_nodes(d, 3)) {
      const std::string number = std::to_string(out.size());
      n.name = "n" + number;
      n.domains = {"z" + std::to_string(d.upto(1)), "b" + std::to_string(d.upto(3)), "r" + std::to_string(d.upto(7))};
      for (std::size_t g = 0; g < n.devices.size(); ++g) n.devices[g].uuid = "SIM-" + number + "-" + std::to_string(g);
      out.push_back(std::move(n));
    }
  return out;
}

// Gangs of the oracle's kinds, some of them several times as large.
gang_request wish(dice &d, uint64_t id) {
  gang_request q = random_request(d, 3, id, false);
  if (d.chance(40))
    for (auto &r : q.roles) r.members *= 2 + d.upto(6);
  return q;
}

// Plans, reserves, lets expire, confirms and releases. The digest of the last state, with all reasons mixed in.
uint64_t live(uint64_t seed, uint64_t &placed, uint64_t &refused) {
  dice d(seed);
  auto e = *gang::engine::open("", log_sink{});
  EXPECT_TRUE(e->set_levels({"zone", "block", "rack"}));
  std::vector<node> nodes = many_nodes(d);
  EXPECT_TRUE(e->set_nodes(nodes));
  uint64_t sum = 0;
  std::deque<uint64_t> held;
  for (uint64_t step = 1; step <= steps; ++step) {
    const auto now = static_cast<int64_t>(step);
    gang_request q = wish(d, step);
    EXPECT_TRUE(model::check(q));
    if (const auto plan = e->plan(q, now)) {
      ++placed;
      const int64_t expires = d.chance(30) ? now + 1 + d.upto(5) : 0;
      EXPECT_TRUE(e->reserve(q, *plan, {now, expires, false}));
      held.push_back(step);
    } else {
      ++refused;
      sum = sum * 31 + static_cast<uint64_t>(plan.error().code());
    }
    if (held.size() > 4 && d.chance(60)) {
      EXPECT_TRUE(e->release({7, held.front()}));
      held.pop_front();
    }
    if (d.chance(10)) {  // a node changes, goes, or comes back
      node &n = nodes[d.upto(static_cast<uint32_t>(nodes.size()) - 1)];
      n.flags = d.chance(50) ? THOLE_NODE_CORDONED : 0;
      if (d.chance(25)) EXPECT_TRUE(e->remove_node(n.name));
      else EXPECT_TRUE(e->set_nodes({n}));
    }
    sum = sum * 31 + e->usage("", now)->digest;
  }
  return sum;
}

TEST(Decisions, AreWhatTheyHaveAlwaysBeen) {
  uint64_t all = 0, placed = 0, refused = 0;
  for (uint64_t seed = 0; seed < lives; ++seed) all = all * 31 + live(seed, placed, refused);
  std::printf("%d lives of %d steps: %llu placed, %llu refused, digest %016llx\n", lives, steps,
              static_cast<unsigned long long>(placed), static_cast<unsigned long long>(refused),
              static_cast<unsigned long long>(all));
  EXPECT_GT(placed, 1000u);
  EXPECT_GT(refused, 1000u);
  EXPECT_EQ(all, 0xc893155e128e4c2bull);
}

}  // namespace
