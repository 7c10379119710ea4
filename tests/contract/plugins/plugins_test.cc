// Plugins that are loaded and misbehave: the host lives, and hears what happened.
#include <sys/wait.h>
#include <thole/gang.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <map>

#include "host.h"

namespace {

using host::folder;

constexpr const char *id = "org.example.specimen";

// Loads one specimen and answers what the core says of it.
host::seen load(host::core &core, const folder &f, const std::string &name) {
  host::install(f, name);
  EXPECT_EQ(core.load(f.path()), THOLE_OK) << core.status.message;
  const auto seen = core.plugins();
  return seen.size() == 1 ? seen[0] : host::seen{};
}

TEST(Plugin, AnswersWithItsGpus) {
  folder f;
  host::core core;
  ASSERT_EQ(load(core, f, "right").reason, "");
  const auto gpus = core.gpus(id, "");
  ASSERT_EQ(gpus.size(), 1u) << core.status.message;
  EXPECT_EQ(host::text(gpus[0].uuid), "SIM-1");
  EXPECT_EQ(gpus[0].memory_mib, 1024u);
  ASSERT_EQ(gpus[0].mig.count, 1u);
  const auto *profile = THOLE_AT(gpus[0].mig, thole_mig_profile, 0);
  EXPECT_EQ(profile->memory_mib, 512u);
  ASSERT_EQ(profile->placements.count, 1u);
  EXPECT_EQ(THOLE_AT(profile->placements, thole_mig_place, 0)->size, 1u);
}

TEST(Plugin, SaysHowMuchRoomTheCallerNeeds) {
  folder f;
  host::core core;
  ASSERT_EQ(load(core, f, "right").reason, "");
  thole_gpu_list list{};
  list.struct_size = sizeof list;
  thole_buffer room{};
  ASSERT_EQ(host::root()->device->list(core.handle, host::str(id), {}, &list, &room, nullptr), THOLE_TOO_SMALL);
  std::vector<uint64_t> memory(room.used / 8);
  room = {memory.data(), memory.size() * 8, 0};
  EXPECT_EQ(host::root()->device->list(core.handle, host::str(id), {}, &list, &room, nullptr), THOLE_OK);
  EXPECT_EQ(list.gpus.count, 1u);
}

TEST(Plugin, BadAnswersAreRefused) {
  folder f;
  host::core core;
  ASSERT_EQ(load(core, f, "right").reason, "");
  const std::map<std::string, std::string> cases = {
      {"twice", "PluginBadAnswer"},
      {"many", "PluginBadAnswer"},
      {"overflow", "PluginBadAnswer"},
      {"stride", "PluginBadAnswer"},
      {"outside", "PluginBadAnswer"},
      {"null", "PluginBadAnswer"},
      {"unsized", "PluginBadAnswer"},
      {"oversized", "PluginBadAnswer"},
      {"text outside", "PluginBadAnswer"},
      {"text overflow", "PluginBadAnswer"},
      {"latin1", "PluginBadAnswer"},
      {"control", "PluginBadAnswer"},
      {"nameless", "PluginBadAnswer"},
      {"pretends", "PluginBadAnswer"},
      {"flags", "PluginBadAnswer"},
      {"context", "PluginBadAnswer"},
      {"huge", "PluginBadAnswer"},
      {"profile", "PluginBadAnswer"},
      {"profiles outside", "PluginBadAnswer"},
      {"share", "PluginBadAnswer"},
      {"place", "PluginBadAnswer"},
      {"greedy", "PluginBadAnswer"},
      {"never enough", "PluginBadAnswer"},
      {"unknown code", "PluginBadAnswer"},
      {"wrong reason", "PluginBadAnswer"},
      {"own reason", "NoDriver"},
      {"no reason", "DriverFailed"},
      {"throw", "PluginThrew"},
      {"throw 7", "PluginThrew"},
  };
  std::size_t right = 0;
  for (const auto &[options, reason] : cases) {
    EXPECT_TRUE(core.gpus(id, options).empty()) << options;
    EXPECT_EQ(core.reason(), reason) << options << ": " << core.status.message;
    EXPECT_TRUE(core.status.flags & THOLE_STATUS_PLUGIN) << options;
    right += core.reason() == reason;
  }
  core.gpus(id, "own reason");
  EXPECT_EQ(core.status.device_code, 7);
  std::printf("bad answers told apart: %zu of %zu\n", right, cases.size());
  // And it is asked again as if nothing had been.
  EXPECT_EQ(core.gpus(id, "").size(), 1u);
}

TEST(Plugin, WrongTablesAndEntriesAreRefused) {
  const std::map<std::string, std::string> cases = {
      {"other_id", "PluginBadAnswer"},    {"no_device", "PluginBadAnswer"},   {"answers_null", "PluginRefusedItself"},
      {"throws_in_entry", "PluginThrew"}, {"throws_in_start", "PluginThrew"}, {"fails_in_start", "NoDriver"},
  };
  for (const auto &[name, reason] : cases) {
    folder f;
    host::core core;
    EXPECT_EQ(load(core, f, name).reason, reason) << name;
    EXPECT_TRUE(core.gpus(id, "").empty());
    EXPECT_EQ(core.reason(), "PluginNotLoaded");
  }
}

TEST(Plugin, OfTwoManifestsWithOneIdTheFirstCounts) {
  folder f;
  host::install(f, "right");
  host::fs::copy(f / "org.example.specimen.yaml", f / "z.yaml");
  host::core core;
  ASSERT_EQ(core.load(f.path()), THOLE_OK);
  const auto seen = core.plugins();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].reason, "");
  EXPECT_EQ(seen[1].reason, "PluginExists");
}

TEST(Plugin, AnUnknownOneIsToldFromARefusedOne) {
  folder f;
  host::core core;
  EXPECT_TRUE(core.gpus(id, "").empty());
  EXPECT_EQ(core.code, THOLE_NOT_FOUND);
  ASSERT_EQ(load(core, f, "missing").reason, "PluginSymbolMissing");
  core.gpus(id, "");
  EXPECT_NE(std::string(core.status.message).find("PluginSymbolMissing"), std::string::npos);
}

TEST(Plugin, TalksThroughTheHostsLog) {
  std::string said;
  const thole_host_log log = {sizeof log, &said, 0, 0, [](void *self, thole_log_level, thole_str, thole_str message) {
                                *static_cast<std::string *>(self) += host::text(message) + "\n";
                              }};
  thole_core_options options{};
  options.struct_size = sizeof options;
  options.log = &log;
  folder f;
  host::core core(&options);
  ASSERT_EQ(load(core, f, "right").reason, "");
  EXPECT_NE(said.find("org.example.specimen: starts"), std::string::npos) << said;
  EXPECT_NE(said.find("loaded org.example.specimen 1.0.0"), std::string::npos) << said;
}

TEST(Stop, ThatThrowsIsTold) {
  folder f;
  host::core core;
  ASSERT_EQ(load(core, f, "throws_in_stop").reason, "");
  EXPECT_EQ(core.close(), THOLE_INTERNAL);
  EXPECT_EQ(core.reason(), "PluginThrew");
}

TEST(Stop, ThatHangsIsLeftAlone) {
  folder f;
  host::core core;
  ASSERT_EQ(load(core, f, "hangs_in_stop").reason, "");
  const thole_core handle = core.handle;
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(core.close(), THOLE_TIMEOUT);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(core.reason(), "PluginStopTimeout");
  std::printf("left alone after %.2f s\n", took.count());
  EXPECT_GE(took.count(), 1.9);
  EXPECT_LE(took.count(), 4.0);
  EXPECT_EQ(host::root()->core->load(handle, THOLE_STR("/"), nullptr), THOLE_STALE);
}

// A gang that was confirmed before the plugin crashed is in the journal, whatever happened to the process.
TEST(Crash, LeavesTheStateIntact) {
  if (host::root()->gang == nullptr) GTEST_SKIP() << "this build has no gang service";
  folder f, state;
  host::install(f, "right");
  const std::string path = (state / "state").string();
  thole_core_options options{};
  options.struct_size = sizeof options;
  options.state = host::str(path);
  const thole_id gang = {7, 7};

  const pid_t child = ::fork();
  if (child == 0) {
    host::core core(&options);
    thole_gpu gpu{};
    gpu.struct_size = sizeof gpu;
    gpu.uuid = THOLE_STR("SIM-1");
    gpu.model = THOLE_STR("right");
    gpu.memory_mib = 1024;
    thole_node node{};
    node.struct_size = sizeof node;
    node.name = THOLE_STR("n");
    node.gpus = {&gpu, 1, sizeof gpu};
    thole_role role{};
    role.struct_size = sizeof role;
    role.name = THOLE_STR("r");
    role.members = 1;
    role.device_kind = THOLE_KIND_WHOLE;
    role.devices = 1;
    thole_gang_request request{};
    request.struct_size = sizeof request;
    request.gang = gang;
    request.roles = {&role, 1, sizeof role};
    const thole_list nodes = {&node, 1, sizeof node};
    const thole_gang_api *api = host::root()->gang;
    thole_plan plan{};
    plan.struct_size = sizeof plan;
    std::vector<uint64_t> memory(8192);
    thole_buffer room{memory.data(), memory.size() * 8, 0};
    thole_reservation reservation{};
    reservation.struct_size = sizeof reservation;
    thole_status &s = core.status;
    if (core.code != THOLE_OK || api->set_nodes(core.handle, &nodes, &s) != THOLE_OK ||
        api->plan(core.handle, &request, 0, &plan, &room, &s) != THOLE_OK ||
        api->reserve(core.handle, &request, &plan, &reservation, &s) != THOLE_OK ||
        api->confirm(core.handle, gang, 0, &s) != THOLE_OK || core.load(f.path()) != THOLE_OK) {
      std::fprintf(stderr, "%s: %s\n", s.reason, s.message);
      ::_exit(1);
    }
    ::signal(SIGSEGV, SIG_DFL);  // not a sanitizer's handler
    core.gpus(id, "crash");
    ::_exit(2);
  }
  int how = 0;
  ASSERT_EQ(::waitpid(child, &how, 0), child);
  ASSERT_TRUE(WIFSIGNALED(how)) << "exit code " << WEXITSTATUS(how);
  EXPECT_EQ(WTERMSIG(how), SIGSEGV);

  host::core core(&options);
  ASSERT_EQ(core.code, THOLE_OK) << core.status.message;
  thole_gang_query query{};
  query.struct_size = sizeof query;
  query.gang = gang;
  thole_plan_list list{};
  list.struct_size = sizeof list;
  std::vector<uint64_t> memory(8192);
  thole_buffer room{memory.data(), memory.size() * 8, 0};
  ASSERT_EQ(host::root()->gang->gangs(core.handle, &query, &list, &room, &core.status), THOLE_OK)
      << core.status.message;
  ASSERT_EQ(list.plans.count, 1u);
  EXPECT_EQ(THOLE_AT(list.plans, thole_plan, 0)->state, THOLE_GANG_CONFIRMED);
}

}  // namespace
