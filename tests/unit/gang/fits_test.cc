// What is remembered of how many members fit, beside the same counted anew, after changes that it has to follow.
#include "gang/fits.h"

#include <gtest/gtest.h>

#include <map>

#include "scenes.h"

namespace {

using namespace thole;
using namespace scenes;

gang::ledger a_ledger(int nodes, int gpus) {
  gang::ledger l;
  l.apply_levels({"rack"});
  std::vector<node> all;
  for (int n = 0; n < nodes; ++n) {
    node &here = all.emplace_back();
    here.name = "n" + std::to_string(1000 + n);
    here.domains = {"r" + std::to_string(n % 7)};
    here.cpu_milli = 64000;
    here.memory_mib = 64000;
    for (int g = 0; g < gpus; ++g)
      here.devices.push_back({here.name + "-" + std::to_string(g), "M", 80000, 0, THOLE_GPU_SIMULATED, 0, {}});
  }
  l.apply_nodes(all);
  l.settle();
  return l;
}

const model::member_want one_gpu{{device_kind::whole, 0, 0, 0, 0}, 1, 0, 0};
const model::member_want one_vgpu{{device_kind::vgpu, 0, 0, 0, 30000}, 1, 0, 0};

// All that the index says, against what model::fits says of each node.
void expect_true(const gang::ledger &l, gang::fit_memory &memory, const model::member_want &want) {
  gang::fit_index &index = memory.of(want);
  index.follow(l);
  const model::topology &tree = l.topology();
  for (int level = model::cluster_level; level <= tree.node_level(); ++level) {
    std::map<uint32_t, uint64_t> rooms;
    for (uint32_t n = 0; n < l.nodes(); ++n) rooms[tree.domain(level, n)] += model::fits(l.at(n), want);
    gang::fit_index::order sorted;
    for (const auto &[d, room] : rooms) {
      ASSERT_EQ(index.room(level, d), room) << level << " " << d;
      sorted.emplace(room, d);
      std::vector<std::pair<uint64_t, uint32_t>> nodes, seen;
      for (uint32_t n : tree.members(level, d))
        if (const uint32_t here = model::fits(l.at(n), want); here > 0) nodes.emplace_back(here, n);
      std::sort(nodes.begin(), nodes.end());
      index.tightest_first(tree, level, d, [&](uint32_t n) {
        seen.emplace_back(index.on(n), n);
        return true;
      });
      ASSERT_EQ(seen, nodes) << level << " " << d;
    }
    ASSERT_EQ(index.by_room(level), sorted) << level;
  }
  int64_t hole = 0;
  for (uint32_t n = 0; n < l.nodes(); ++n)
    for (const model::gpu &g : l.at(n).gpus) hole = std::max(hole, g.hole_mib());
  ASSERT_EQ(memory.largest_hole(l), static_cast<uint64_t>(hole));
}

TEST(Fits, FollowTheLedgerThroughTriesAndRollbacks) {
  gang::ledger l = a_ledger(30, 3);
  gang::fit_memory memory;
  dice d(7);
  std::vector<model::grant> grants;
  for (int round = 0; round < 400; ++round) {
    const std::size_t mark = l.mark();
    for (uint32_t n = d.upto(40); n > 0; --n) {
      const uint32_t node = d.upto(l.nodes() - 1);
      const auto &want = d.chance(50) ? one_gpu : one_vgpu;
      if (model::fits(l.at(node), want) > 0) l.place(node, want, grants);
    }
    if (d.chance(50)) expect_true(l, memory, one_vgpu);
    if (d.chance(80)) l.rollback(mark);
    if (d.chance(70)) expect_true(l, memory, one_gpu);
    if (d.chance(5)) l.rollback(0);
  }
}

// The row of touched nodes is a ring of 1,024: to its length, and one beyond.
TEST(Fits, FollowHoweverMuchWasTouched) {
  for (const int touched : {1, 1022, 1023, 1024, 1025, 1026, 3000}) {
    gang::ledger l = a_ledger(3, 1);
    gang::fit_memory memory;
    expect_true(l, memory, one_gpu);
    const model::member_want nothing{};
    std::vector<model::grant> grants;
    l.place(2, one_gpu, grants);  // the only change that matters, and the first
    for (int i = 1; i < touched; ++i) l.place(static_cast<uint32_t>(i % 2), nothing, grants);
    expect_true(l, memory, one_gpu);
  }
}

TEST(Fits, MembersWithoutDevicesGoToGpuNodesLast) {
  gang::ledger l = a_ledger(2, 1);
  node plain;
  plain.name = "zz";
  plain.domains = {"r0"};
  plain.cpu_milli = 1000000;
  l.apply_nodes({plain});
  l.settle();
  gang::fit_memory memory;
  model::member_want cpu;
  cpu.cpu_milli = 1000;
  std::vector<uint32_t> order;
  gang::fit_index &index = memory.of(cpu);
  index.follow(l);
  index.tightest_first(l.topology(), model::cluster_level, 0, [&](uint32_t n) {
    order.push_back(n);
    return true;
  });
  EXPECT_EQ(order, (std::vector<uint32_t>{2, 0, 1})) << "although it has more room";
}

}  // namespace
