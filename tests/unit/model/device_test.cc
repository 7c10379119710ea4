// How whole use, vGPUs and MIG instances fit on one GPU.
#include "model/device.h"

#include <gtest/gtest.h>

namespace {

using namespace thole;
using namespace thole::model;

// An H200 in MIG mode as its driver reports it, two profiles of it: 1g at seven places, 3g at two that overlap them.
gpu mig_card() {
  gpu g;
  g.flags = THOLE_GPU_MIG;
  g.memory_mib = 144384;
  const auto add = [&](uint32_t name, uint32_t count, uint32_t share, std::vector<mig_placement> at) {
    profile_shape p{name, count, share, 18000, std::move(at), {}};
    for (uint32_t i = 0; i < p.placements.size(); ++i) p.by_end.push_back(i);
    g.profiles.push_back(p);
  };
  add(1, 7, 142, {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}});
  add(2, 2, 428, {{0, 4}, {4, 4}});
  return g;
}

gpu plain_card(int64_t memory = 81920, int64_t context = 500) {
  gpu g;
  g.memory_mib = memory;
  g.context_mib = context;
  return g;
}

device_want vgpu(int64_t memory, uint32_t share = 0) {
  return {device_kind::vgpu, 0, 0, share, memory};
}

// Takes one after the other until none fits, and sees that slots() said so each time.
uint32_t fill(gpu &g, const device_want &w) {
  uint32_t n = 0;
  for (uint32_t before = slots(g, w); before > 0; before = slots(g, w), ++n) {
    const auto one = choose(g, w);
    EXPECT_TRUE(one && takes(g, *one));
    if (!one) return n;
    hold(g, *one);
    EXPECT_EQ(slots(g, w), before - 1) << "each takes away exactly one";
  }
  EXPECT_FALSE(choose(g, w));
  return n;
}

TEST(Device, AWholeGpuIsExclusive) {
  gpu g = plain_card();
  const device_want whole{device_kind::whole, 0, 0, 0, 0};
  EXPECT_EQ(fill(g, whole), 1u);
  EXPECT_EQ(slots(g, vgpu(1)), 0u);
  EXPECT_EQ(g.hole_mib(), -1);
  g = plain_card();
  hold(g, *choose(g, vgpu(1)));
  EXPECT_EQ(slots(g, whole), 0u) << "not beside a vGPU";
  EXPECT_EQ(slots(mig_card(), whole), 0u) << "not in MIG mode";
}

TEST(Device, AVgpuCostsItsMemoryAndItsContext) {
  gpu g = plain_card(81920, 500);
  EXPECT_EQ(slots(g, vgpu(81920)), 0u);
  EXPECT_EQ(slots(g, vgpu(81920 - 500)), 1u);
  EXPECT_EQ(fill(g, vgpu(10240)), 7u) << "not eight: contexts are charged once for each";
  EXPECT_EQ(g.hole_mib(), 81920 - 7 * 10740 - 500);
}

TEST(Device, VgpusShareComputeAndAreCounted) {
  gpu g = plain_card();
  EXPECT_EQ(fill(g, vgpu(1, 334)), 2u);
  EXPECT_EQ(slots(g, vgpu(1, 332)), 1u);
  EXPECT_EQ(slots(g, vgpu(1, 333)), 0u);
  EXPECT_EQ(fill(g, vgpu(1)), 14u) << "no share is claimed: 16 is the most";
  g = plain_card();
  g.max_vgpus = 3;
  EXPECT_EQ(fill(g, vgpu(1)), 3u);
  EXPECT_EQ(g.hole_mib(), -1);
}

TEST(Device, MigPlacementsDoNotOverlap) {
  gpu g = mig_card();
  const device_want small{device_kind::mig, 0, 1, 0, 0}, large{device_kind::mig, 0, 2, 0, 0};
  EXPECT_EQ(slots(g, small), 7u);
  EXPECT_EQ(slots(g, large), 2u);
  const auto first = choose(g, small);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->mig.start, 0u) << "ties by start";
  hold(g, *first);
  EXPECT_EQ(slots(g, large), 1u);
  EXPECT_EQ(fill(g, large), 1u);
  EXPECT_EQ(fill(g, small), 3u) << "slices 1 to 3";
  EXPECT_EQ(slots(g, vgpu(1)), 0u) << "no vGPU in MIG mode";
  EXPECT_FALSE(takes(g, *first)) << "the place is taken";
}

TEST(Device, AMigProfilesCountBinds) {
  gpu g = mig_card();
  g.profiles[0].count = 2;
  EXPECT_EQ(fill(g, {device_kind::mig, 0, 1, 0, 0}), 2u);
  EXPECT_EQ(slots(g, {device_kind::mig, 0, 9, 0, 0}), 0u) << "not offered";
}

TEST(Device, WhatIsGivenBackIsFree) {
  gpu g = mig_card();
  const auto one = choose(g, {device_kind::mig, 0, 2, 0, 0});
  hold(g, *one);
  give_back(g, *one);
  EXPECT_EQ(g.holders(), 0u);
  EXPECT_EQ(g.slices(), 0u);
  EXPECT_EQ(g.used_mib, 0);
  EXPECT_EQ(g.used_share, 0);
}

TEST(Device, AnOvercommittedGpuHasNoRoom) {
  gpu g = plain_card();
  const grant whole = grant_of(g, {device_kind::whole, 0, 0, 0, 0}, 0, {});
  hold(g, whole);
  EXPECT_FALSE(g.overcommitted());
  hold(g, whole);
  EXPECT_TRUE(g.overcommitted());
  give_back(g, whole);
  EXPECT_FALSE(g.overcommitted());
  gpu shrunk = plain_card();
  hold(shrunk, *choose(shrunk, vgpu(70000)));
  shrunk.memory_mib = 60000;
  EXPECT_TRUE(shrunk.overcommitted());
  EXPECT_EQ(slots(shrunk, vgpu(1)), 0u);
  EXPECT_EQ(shrunk.hole_mib(), 0);
  gpu mig = mig_card();
  const grant a = grant_of(mig, {device_kind::mig, 0, 2, 0, 0}, 0, {0, 4});
  const grant b = grant_of(mig, {device_kind::mig, 0, 1, 0, 0}, 0, {3, 1});
  hold(mig, a);
  hold(mig, b);
  EXPECT_TRUE(mig.overcommitted()) << "two instances on one slice";
}

TEST(Device, TheLargestSizesDoNotOverflow) {
  gpu g = plain_card(static_cast<int64_t>(most_mib), static_cast<int64_t>(most_mib));
  EXPECT_EQ(slots(g, vgpu(static_cast<int64_t>(most_mib))), 0u);
  g.context_mib = 0;
  EXPECT_EQ(slots(g, vgpu(static_cast<int64_t>(most_mib))), 1u);
  EXPECT_EQ(mask_of({0, 64}), ~uint64_t{0});
  EXPECT_EQ(mask_of({63, 1}), uint64_t{1} << 63);
}

TEST(Device, ADescriptionIsChecked) {
  const device good{"GPU-1", "M", 1000, 10, 0, 0, {{"1g", 100, 7, 142, {{0, 1}}}}};
  EXPECT_TRUE(check(good));
  const auto why = [&](auto change) {
    device d = good;
    change(d);
    const auto r = check(d);
    return r ? reason{} : r.error().why;
  };
  EXPECT_EQ(why([](device &d) { d.uuid = ""; }), reason::NodeBad);
  EXPECT_EQ(why([](device &d) { d.memory_mib = 0; }), reason::NodeBad);
  EXPECT_EQ(why([](device &d) { d.memory_mib = most_mib + 1; }), reason::OverBound);
  EXPECT_EQ(why([](device &d) { d.context_mib = most_mib + 1; }), reason::OverBound);
  EXPECT_EQ(why([](device &d) { d.max_vgpus = most_vgpus + 1; }), reason::OverBound);
  EXPECT_EQ(why([](device &d) { d.flags = 16; }), reason::NodeBad);
  EXPECT_EQ(why([](device &d) { d.mig.push_back(d.mig[0]); }), reason::NodeBad);
  EXPECT_EQ(why([](device &d) { d.mig[0].name = ""; }), reason::NodeBad);
  EXPECT_EQ(why([](device &d) { d.mig[0].share_milli = 1001; }), reason::NodeBad);
  EXPECT_EQ(why([](device &d) { d.mig[0].memory_mib = most_mib + 1; }), reason::OverBound);
  for (const mig_placement bad : {mig_placement{0, 0}, {64, 1}, {63, 2}, {0, 65}, {~0u, 1}, {1, ~0u}})
    EXPECT_EQ(why([&](device &d) { d.mig[0].placements[0] = bad; }), reason::NodeBad) << bad.start << ":" << bad.size;
  EXPECT_EQ(why([](device &d) { d.mig.resize(most_profiles + 1); }), reason::OverBound);
}

}  // namespace
