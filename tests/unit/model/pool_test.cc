#include "model/pool.h"

#include <gtest/gtest.h>

#include <set>

#include "model/document.h"

namespace thole::model {
namespace {

TEST(Pool, SaysWhatFits) {
  EXPECT_TRUE(vgpus_fit("gpu", 81559, 7, 10240, 512).fits);
  const fit f = vgpus_fit("gpu", 81559, 8, 10240, 512);
  EXPECT_FALSE(f.fits);
  EXPECT_EQ(
      f.sentence,
      "8 vGPUs of 10Gi and as many contexts of 512Mi are 86016 MiB; gpu reports 81559 MiB: 7 x 10Gi fit, or 8 x 9Gi");
  EXPECT_TRUE(vgpus_fit("gpu", 81559, 8, 9 * 1024, 512).fits);
}

// What the sentence offers fits, and the fewer are the most that do.
TEST(Pool, OffersAreTrue) {
  std::size_t offers = 0;
  for (int64_t gpu = 1000; gpu < 100'000; gpu += 997)
    for (int64_t count = 1; count <= 16; ++count)
      for (int64_t size : {100, 1024, 10'240, 40'960}) {
        const fit f = vgpus_fit("g", gpu, count, size, 512);
        EXPECT_EQ(f.fits, count * (size + 512) <= gpu);
        if (f.fits) continue;
        const int64_t fewer = gpu / (size + 512);
        if (fewer > 0) {
          EXPECT_TRUE(vgpus_fit("g", gpu, fewer, size, 512).fits);
          EXPECT_FALSE(vgpus_fit("g", gpu, fewer + 1, size, 512).fits);
          EXPECT_NE(f.sentence.find(": " + std::to_string(fewer) + " x "), std::string::npos);
        }
        ++offers;
      }
  std::printf("%zu offers\n", offers);
}

TEST(Pool, NamesNodesAndDevices) {
  EXPECT_EQ(node_name("desk", 0, 1), "desk");
  EXPECT_EQ(node_name("rack", 2, 3), "rack-2");
  std::set<std::string> seen;
  for (int64_t i = 0; i < 4; ++i)
    for (const char *node : {"a", "b"}) seen.insert(simulated_uuid("p", node, i));
  EXPECT_EQ(seen.size(), 8u);
  EXPECT_EQ(simulated_uuid("p", "a", 0), simulated_uuid("p", "a", 0));
  EXPECT_TRUE(simulated_uuid("p", "a", 0).starts_with("SIM-"));
}

TEST(Pool, IsNeverSimulatedUnlessItSaysSo) {
  const document d =
      read_document("apiVersion: thole.dev/v1alpha1\nkind: NodePool\nmetadata: {name: p}\nspec: {}\n", "");
  ASSERT_FALSE(d.value.is_null());
  EXPECT_EQ(d.value["spec"]["simulated"], false);
  EXPECT_EQ(d.value["spec"]["nodes"], json::array());
}

TEST(Pool, ConvertsTheFirstForm) {
  const document d = read_document(
      "apiVersion: v1\nkind: NodePool\nmetadata: {name: p}\nspec:\n  gpu.memory: 80Gi\n  vgpu.memory: 9Gi\n  "
      "vgpu.count: 8\n",
      "local");
  ASSERT_EQ(d.found.errors(), 0u) << d.found.outcome().error().text();
  ASSERT_EQ(d.found.all().size(), 1u);
  EXPECT_EQ(d.found.all()[0].why, reason::Converted);
  EXPECT_EQ(d.value["apiVersion"], "thole.dev/v1alpha1");
  EXPECT_EQ(d.value["spec"]["gpus"]["memory"], "81559Mi");
  EXPECT_EQ(d.value["spec"]["vgpu"], (json{{"memory", "9Gi"}, {"count", 8}}));
}

}  // namespace
}  // namespace thole::model
