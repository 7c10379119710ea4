#include "partition/assign.h"

#include <gtest/gtest.h>

namespace thole::partition {
namespace {

constexpr const char *gpu_a = "GPU-7f2f9d1e-2b1c-4a0e-9d52-0b7f0e6a1c11";
constexpr const char *gpu_b = "GPU-00000000-1111-2222-3333-444444444444";

granted whole(std::string uuid, bool simulated = false) {
  return {std::move(uuid), THOLE_KIND_WHOLE, 1000, 98304, "", {}, simulated};
}
granted vgpu(std::string uuid, bool simulated = false) {
  return {std::move(uuid), THOLE_KIND_VGPU, 100, 10240, "", {}, simulated};
}
granted mig(std::string uuid, bool simulated = false) {
  return {std::move(uuid), THOLE_KIND_MIG, 142, 18000, "1g.18gb", {0, 1}, simulated};
}
member with(std::vector<granted> devices) {
  return {{1, 2}, 1, 7, "node-a", "worker", 0, std::move(devices)};
}
using texts = std::vector<std::string>;

TEST(Assign, SimulatedDevicesHideEveryRealOne) {
  const auto a = assign(with({vgpu("SIM-0", true), whole(gpu_a, true)}));
  ASSERT_TRUE(a) << a.error().text();
  EXPECT_EQ(a->environment, texts{"CUDA_VISIBLE_DEVICES="});
  EXPECT_EQ(a->held_by, backend::simulated);
  EXPECT_EQ(read(a->record)->devices[1].held_by, backend::simulated);
}

TEST(Assign, AMemberWithoutDevicesSeesNone) {
  const auto a = assign(with({}));
  ASSERT_TRUE(a);
  EXPECT_EQ(a->environment, texts{"CUDA_VISIBLE_DEVICES="});
  EXPECT_EQ(a->held_by, backend::none);
  EXPECT_TRUE(read(a->record)->devices.empty());
}

TEST(Assign, RealOnesAreNamedByUuidOnceEach) {
  const auto a = assign(with({whole(gpu_b), whole(gpu_a)}));
  ASSERT_TRUE(a);
  EXPECT_EQ(a->environment,
            (texts{std::string("CUDA_VISIBLE_DEVICES=") + gpu_b + "," + gpu_a, "CUDA_DEVICE_ORDER=PCI_BUS_ID"}));
  EXPECT_EQ(a->held_by, backend::exclusive);
  const auto twice = assign(with({vgpu(gpu_a), vgpu(gpu_a)}));
  ASSERT_TRUE(twice);
  EXPECT_EQ(twice->environment[0], std::string("CUDA_VISIBLE_DEVICES=") + gpu_a);
  EXPECT_EQ(read(twice->record)->devices.size(), 2u);
  EXPECT_EQ(assign(with({vgpu("SIM-1", true), whole(gpu_a)}))->environment[0],
            std::string("CUDA_VISIBLE_DEVICES=") + gpu_a);
}

TEST(Assign, TheWeakestBackendCounts) {
  EXPECT_EQ(assign(with({whole(gpu_a), vgpu(gpu_b)}))->held_by, backend::none);
  EXPECT_EQ(assign(with({whole(gpu_a), vgpu("SIM-0", true)}))->held_by, backend::simulated);
  EXPECT_EQ(assign(with({vgpu(gpu_a), vgpu("SIM-0", true)}))->held_by, backend::none);
}

TEST(Assign, NothingThatCudaWouldReadAsAnIndexOrAList) {
  for (const char *uuid : {"0", "-1", "all", "GPU-1,GPU-2", "GPU-1 ", "gpu-1", "MIG-1", "GPU-\xC3\xA9", ""})
    EXPECT_EQ(assign(with({whole(uuid)})).error().why, reason::PlanBad) << uuid;
}

TEST(Assign, AMigInstanceNeedsItsOwnName) {
  EXPECT_EQ(assign(with({mig(gpu_a)})).error().why, reason::MigInstanceMissing);
  const auto a = assign(with({mig("MIG-11111111-2222-3333-4444-555555555555")}));
  ASSERT_TRUE(a) << a.error().text();
  EXPECT_EQ(a->environment[0], "CUDA_VISIBLE_DEVICES=MIG-11111111-2222-3333-4444-555555555555");
  EXPECT_EQ(assign(with({mig("SIM-3", true)}))->environment[0], "CUDA_VISIBLE_DEVICES=");
}

TEST(Assign, RefusesWhatCannotBeARecord) {
  member m = with({whole(gpu_a)});
  m.attempt = 0;
  EXPECT_EQ(assign(m).error().why, reason::PlanBad);
  m = with({whole(gpu_a)});
  m.role = "a\nb";
  EXPECT_EQ(assign(m).error().why, reason::PlanBad);
  EXPECT_EQ(assign(m).error().code(), THOLE_INVALID);
}

}  // namespace
}  // namespace thole::partition
