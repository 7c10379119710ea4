// thole.device.sim and thole.device.nvml, as the build has made them, through the core. NVML is a fake one, found by
// LD_LIBRARY_PATH; without nvml.h the plugin is not there and its tests are skipped.
#include <map>
#include <set>

#include "host.h"

namespace {

constexpr const char *sim = "thole.device.sim";
constexpr const char *nvml = "thole.device.nvml";

class Devices : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(core.load(THOLE_PLUGIN_FOLDER), THOLE_OK) << core.status.message; }
  void TearDown() override { EXPECT_EQ(core.close(), THOLE_OK) << core.status.message; }
  host::core core;
};

TEST_F(Devices, AreLoaded) {
  for (const auto &p : core.plugins()) EXPECT_EQ(p.reason, "") << p.id << ": " << p.message;
}

TEST_F(Devices, SimulatedOnesSaySoAndStayTheSame) {
  const char *options =
      R"({"gpus": 4, "memory_mib": 98304, "context_mib": 600, "model": "Simulated H200", "node": "a"})";
  std::set<std::string> uuids, again;
  for (const auto &g : core.gpus(sim, options)) {
    uuids.insert(host::text(g.uuid));
    EXPECT_EQ(g.flags, THOLE_GPU_SIMULATED);
    EXPECT_EQ(g.memory_mib, 98304u);
    EXPECT_EQ(g.context_mib, 600u);
    EXPECT_EQ(host::text(g.model), "Simulated H200");
    EXPECT_EQ(g.mig.count, 0u);
  }
  EXPECT_EQ(uuids.size(), 4u);
  for (const auto &g : core.gpus(sim, options)) again.insert(host::text(g.uuid));
  EXPECT_EQ(uuids, again);
  for (const auto &g : core.gpus(sim, R"({"gpus": 4, "node": "b"})")) EXPECT_EQ(uuids.count(host::text(g.uuid)), 0u);
  EXPECT_TRUE(uuids.begin()->starts_with("SIM-"));
  EXPECT_EQ(uuids.begin()->size(), 40u);
}

TEST_F(Devices, SimulatedMigHasPlaces) {
  const auto gpus = core.gpus(sim, R"({"mig": true, "memory_mib": 98304})");
  ASSERT_EQ(gpus.size(), 1u) << core.status.message;
  EXPECT_EQ(gpus[0].flags, THOLE_GPU_SIMULATED | THOLE_GPU_MIG);
  ASSERT_EQ(gpus[0].mig.count, 5u);
  const auto *small = THOLE_AT(gpus[0].mig, thole_mig_profile, 0);
  EXPECT_EQ(host::text(small->name), "1g.12gb");
  EXPECT_EQ(small->placements.count, 7u);
}

TEST_F(Devices, OptionsThatAreNotUnderstoodAreRefused) {
  for (const char *options : {"[]", "{", "{\"gpu\": 1}", "{\"gpus\": 0}", "{\"gpus\": 33}", "{\"gpus\": -1}",
                              "{\"gpus\": 1.5}", "{\"gpus\": \"1\"}", "{\"memory_mib\": 0}", "{\"mig\": 1}",
                              "{\"model\": \"\"}", "{\"memory_mib\": 100, \"context_mib\": 101}"}) {
    EXPECT_TRUE(core.gpus(sim, options).empty()) << options;
    EXPECT_EQ(core.reason(), "PluginOptionsBad") << options << ": " << core.status.message;
  }
  EXPECT_EQ(core.gpus(sim, "").size(), 1u);
}

class Nvml : public Devices {
 protected:
  void SetUp() override {
#ifndef THOLE_FAKE_NVML
    GTEST_SKIP() << "thole-device-nvml was left out: no nvml.h at configure time";
#endif
    Devices::SetUp();
  }
  void TearDown() override {
    ::unsetenv("FAKE_NVML");
    if (!IsSkipped()) Devices::TearDown();
  }
  std::vector<thole_gpu> with(const char *wish) {
    ::setenv("FAKE_NVML", wish, 1);
    return core.gpus(nvml, "{\"context_mib\": 500}");
  }
};

TEST_F(Nvml, TellsWhatTheDriverTells) {
  const auto gpus = with("");
  ASSERT_EQ(gpus.size(), 2u) << core.status.message;
  EXPECT_EQ(host::text(gpus[1].uuid), "GPU-00000001-0000-0000-0000-000000000000");
  EXPECT_EQ(host::text(gpus[0].model), "Fake H200");
  EXPECT_EQ(gpus[0].memory_mib, 143771u - 629u);  // the driver's reserve is not capacity
  EXPECT_EQ(gpus[0].context_mib, 500u);
  EXPECT_EQ(gpus[0].flags, 0u);
  EXPECT_EQ(with("mig").at(0).flags, THOLE_GPU_MIG);
  const auto mig = with("mig");
  ASSERT_EQ(mig.at(0).mig.count, 2u);
  const auto *small = THOLE_AT(mig[0].mig, thole_mig_profile, 0);
  EXPECT_EQ(host::text(small->name), "1g.18gb");
  EXPECT_EQ(small->memory_mib, 16384u);
  EXPECT_EQ(small->count, 7u);
  EXPECT_EQ(small->share_milli, 121u);
  EXPECT_EQ(small->placements.count, 7u);
  const auto *whole = THOLE_AT(mig[0].mig, thole_mig_profile, 1);
  EXPECT_EQ(whole->memory_mib, 143771u - 629u);  // never more than the card has
}

TEST_F(Nvml, FailuresAreReasonsAndNeverCapacity) {
  struct failing {
    const char *wish, *reason;
    int code;
  };
  const failing cases[] = {{"fail init 9", "NoDriver", 9},          {"fail init 12", "NoDriver", 12},
                           {"fail init 18", "DriverFailed", 18},    {"fail init 999", "DriverFailed", 999},
                           {"fail count 999", "DriverFailed", 999}, {"fail handle 15", "DriverFailed", 15},
                           {"fail uuid 999", "DriverFailed", 999},  {"fail name 999", "DriverFailed", 999},
                           {"fail memory 15", "DriverFailed", 15},  {"fail memory 3", "DriverFailed", 3},
                           {"fail mig 999", "DriverFailed", 999},   {"fail profile 999", "DriverFailed", 999},
                           {"fail places 999", "DriverFailed", 999}};
  std::size_t right = 0;
  for (const failing &c : cases) {
    EXPECT_TRUE(with(c.wish).empty()) << c.wish;
    EXPECT_EQ(core.code, THOLE_UNAVAILABLE) << c.wish;
    EXPECT_EQ(core.reason(), c.reason) << c.wish << ": " << core.status.message;
    EXPECT_EQ(core.status.device_code, c.code) << c.wish;
    right += core.reason() == c.reason && core.status.device_code == c.code;
  }
  std::printf("failures of the driver told with their code: %zu of %zu\n", right, std::size(cases));
  EXPECT_EQ(with("").size(), 2u);
}

TEST_F(Nvml, ACardWithoutMigIsNoFailure) {
  const auto gpus = with("fail mig 3");
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[0].flags, 0u);
}

TEST_F(Nvml, AGpuThatIsLostIsLeftOutAndTheOthersStay) {
  const auto gpus = with("lost");
  ASSERT_EQ(gpus.size(), 1u) << core.status.message;
  EXPECT_EQ(host::text(gpus[0].uuid), "GPU-00000000-0000-0000-0000-000000000000");
}

}  // namespace
