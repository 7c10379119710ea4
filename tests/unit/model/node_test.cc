// How many members a node takes, and where they come to lie.
#include "model/node.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace {

using namespace thole;
using namespace thole::model;

machine box(std::vector<int64_t> gpus, int64_t cpu = 8000, int64_t memory = 8000) {
  machine m;
  m.cpu_milli = cpu;
  m.memory_mib = memory;
  for (const int64_t mib : gpus) {
    gpu g;
    g.memory_mib = mib;
    m.gpus.push_back(g);
  }
  return m;
}

member_want vgpus(uint32_t devices, int64_t mib) {
  return {{device_kind::vgpu, 0, 0, 0, mib}, devices, 0, 0};
}

// Places until nothing fits; fits() must have said how many, at every step.
uint32_t fill(machine m, const member_want &w) {
  uint32_t n = 0;
  for (uint32_t before = fits(m, w); before > 0; before = fits(m, w), ++n) {
    std::vector<grant> got;
    place(m, w, got);
    EXPECT_EQ(got.size(), w.devices);
    std::set<uint32_t> on;
    for (const grant &g : got) on.insert(g.device);
    if (apart(w)) {
      EXPECT_EQ(on.size(), w.devices) << "two vGPUs of a member on one GPU";
    }
    EXPECT_EQ(fits(m, w), before - 1) << "each takes away exactly one";
    if (fits(m, w) >= before) return n;
  }
  for (const gpu &g : m.gpus) EXPECT_FALSE(g.overcommitted());
  return n;
}

TEST(Node, CpuMemoryAndDevicesBind) {
  const machine m = box({1000, 1000, 1000});
  EXPECT_EQ(fits(m, {{}, 0, 0, 0}), THOLE_MAX_MEMBERS);
  EXPECT_EQ(fits(m, {{}, 0, 3000, 0}), 2u);
  EXPECT_EQ(fits(m, {{}, 0, 0, 4001}), 1u);
  EXPECT_EQ(fill(m, {{device_kind::whole, 0, 0, 0, 0}, 1, 0, 0}), 3u);
  EXPECT_EQ(fill(m, {{device_kind::whole, 0, 0, 0, 0}, 2, 0, 0}), 1u);
  EXPECT_EQ(fill(m, {{device_kind::whole, 0, 0, 0, 0}, 1, 5000, 0}), 1u);
  machine closed = m;
  closed.flags = THOLE_NODE_CORDONED;
  EXPECT_EQ(fits(closed, {{}, 0, 1, 0}), 0u);
  EXPECT_EQ(capacity(closed, {{device_kind::whole, 0, 0, 0, 0}, 1, 0, 0}), 3u);
}

TEST(Node, MoreIsHeldThanThereIs) {
  machine m = box({1000});
  m.used_cpu = 9000;
  EXPECT_EQ(fits(m, {{}, 0, 1, 0}), 0u);
  EXPECT_EQ(fits(m, {{}, 0, 0, 1}), 8000u) << "a resource that is not asked for does not bind";
  m.empty();
  EXPECT_EQ(fits(m, {{}, 0, 8000, 0}), 1u);
}

TEST(Node, BestFitTakesTheTightestGpuAndTiesGoByOrder) {
  machine m = box({1000, 600, 600});
  std::vector<grant> got;
  place(m, vgpus(1, 500), got);
  EXPECT_EQ(got[0].device, 1u);
  place(m, vgpus(1, 500), got);
  EXPECT_EQ(got[1].device, 2u);
  place(m, vgpus(1, 500), got);
  EXPECT_EQ(got[2].device, 0u);
}

TEST(Node, VgpusOfAMemberLieApart) {
  EXPECT_EQ(fill(box({1000}), vgpus(2, 100)), 0u);
  EXPECT_EQ(fill(box({200, 200}), vgpus(2, 100)), 2u);
  EXPECT_EQ(fill(box({1000, 100}), vgpus(2, 100)), 1u) << "the second GPU serves one member only";
  EXPECT_EQ(fill(box({200, 100, 100}), vgpus(2, 100)), 2u) << "best fit alone would take both small ones first";
  EXPECT_EQ(fill(box({300, 100, 100, 100}), vgpus(2, 100)), 3u);
}

// Against the plain definition: sum(min(slots, n)) >= n * devices.
TEST(Node, CountsApartExactly) {
  std::mt19937 random(7);
  int cases = 0;
  for (; cases < 5000; ++cases) {
    std::vector<int64_t> gpus(1 + random() % 6);
    for (int64_t &mib : gpus) mib = 100 * static_cast<int64_t>(random() % 6);
    const auto devices = static_cast<uint32_t>(2 + random() % 3);
    uint32_t most = 0;
    for (uint32_t n = 1; n <= 40; ++n) {
      int64_t sum = 0;
      for (const int64_t mib : gpus) sum += std::min<int64_t>(mib / 100, n);
      if (sum >= int64_t{n} * devices) most = n;
    }
    ASSERT_EQ(fill(box(gpus), vgpus(devices, 100)), most) << "case " << cases;
  }
  std::printf("%d of 5000 random nodes\n", cases);
}

TEST(Node, ADescriptionIsChecked) {
  const node good{"n", {"r"}, 1, 1, 0, {}};
  EXPECT_TRUE(check(good, 1));
  const auto why = [&](std::size_t levels, auto change) {
    node n = good;
    change(n);
    const auto r = check(n, levels);
    return r ? reason{} : r.error().why;
  };
  EXPECT_EQ(why(2, [](node &) {}), reason::NodeBad);
  EXPECT_EQ(why(1, [](node &n) { n.name = ""; }), reason::NodeBad);
  EXPECT_EQ(why(1, [](node &n) { n.domains[0] = ""; }), reason::NodeBad);
  EXPECT_EQ(why(1, [](node &n) { n.flags = 2; }), reason::NodeBad);
  EXPECT_EQ(why(1, [](node &n) { n.cpu_milli = most_cpu_milli + 1; }), reason::OverBound);
  EXPECT_EQ(why(1, [](node &n) { n.memory_mib = most_mib + 1; }), reason::OverBound);
  EXPECT_EQ(why(1, [](node &n) { n.devices.resize(THOLE_MAX_GPUS + 1); }), reason::OverBound);
}

}  // namespace
