// thole/gang.h, sentence by sentence: what is held. reserve, confirm, cancel, release, gangs, usage; time; the state
// folder.
#include <fcntl.h>
#include <sys/wait.h>

#include <algorithm>
#include <map>
#include <set>

#include "ledger.h"

using namespace host;

namespace {

std::vector<node_text> three() {
  return {{"a", {"r1"}}, {"b", {"r1"}}, {"c", {"r2"}}};
}

class holding : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(l.set_nodes(three()), ""); }
  ledger l;
};

// --- reserve

TEST_F(holding, the_same_placements_again_change_at_most_the_expiry) {
  const wish w(1, 3);
  ASSERT_EQ(l.plan(w), "");
  ASSERT_EQ(l.reserve(w, l.answer, 0, 100), "");
  const uint64_t revision = l.revision();
  EXPECT_EQ(l.reserve(w, l.answer, 0, 100), "");
  EXPECT_EQ(l.revision(), revision);
  EXPECT_EQ(l.reserve(w, l.answer, 50, 200), "");
  EXPECT_EQ(l.revision(), revision + 1);
  ASSERT_EQ(l.gangs(1, "", 150), "");
  EXPECT_EQ(THOLE_AT(l.held.plans, thole_plan, 0)->expires_ns, 200);
  EXPECT_EQ(l.reserve(w, l.answer, 50, 0), "");
  ASSERT_EQ(l.gangs(1, "", INT64_MAX), "") << "0 means never";
  ASSERT_EQ(l.confirm(1, 60), "");
  const uint64_t confirmed = l.revision();
  EXPECT_EQ(l.reserve(w, l.answer, 70, 90), "") << "also after confirm";
  EXPECT_EQ(l.revision(), confirmed);
  ASSERT_EQ(l.gangs(1), "");
  EXPECT_EQ(THOLE_AT(l.held.plans, thole_plan, 0)->ranks, 3u);
}

TEST_F(holding, other_placements_of_the_same_gang_are_refused) {
  const wish w(1);
  ASSERT_EQ(l.reserve(w, written_plan(1).member(0, 0, "a", {"a-0"})), "");
  EXPECT_EQ(l.reserve(w, written_plan(1).member(0, 0, "a", {"a-1"})), "GangExists");
  EXPECT_EQ(l.reserve(w, written_plan(1).member(0, 0, "b", {"b-0"})), "GangExists");
  EXPECT_EQ(l.reserve(wish(1, 2), written_plan(1).member(0, 0, "a", {"a-0"}).member(0, 1, "a", {"a-1"})), "GangExists");
  EXPECT_EQ(l.reserve(w, written_plan(1).member(0, 0, "x", {"x-0"})), "GangExists");
  EXPECT_EQ(l.status.code, THOLE_EXISTS);
  EXPECT_EQ(l.holders("a-0"), 1u);
}

TEST_F(holding, a_plan_that_was_overtaken_is_stale_and_holds_nothing) {
  const wish w(1, 6);
  ASSERT_EQ(l.plan(w), "");
  ASSERT_EQ(l.reserve(wish(2), written_plan(2).member(0, 0, "c", {"c-1"})), "");
  const uint64_t before = l.digest();
  EXPECT_EQ(l.reserve(w, l.answer), "PlanStale");
  EXPECT_EQ(l.status.code, THOLE_CONFLICT);
  EXPECT_EQ(l.digest(), before);
  ASSERT_EQ(l.release(2), "");
  ASSERT_EQ(l.set_nodes({{"b", {"r1"}, 2, THOLE_NODE_CORDONED}}), "");
  EXPECT_EQ(l.reserve(w, l.answer), "PlanStale") << "cordoned since";
  ASSERT_EQ(l.set_nodes({{"b", {"r1"}, 2, 0, "", THOLE_GPU_UNHEALTHY}}), "");
  EXPECT_EQ(l.reserve(w, l.answer), "PlanStale") << "sick since";
  ASSERT_EQ(l.set_nodes({{"b", {"r1"}}}), "");
  EXPECT_EQ(l.reserve(w, l.answer), "");
  wish cpu(3, 1, THOLE_KIND_NONE);
  cpu.roles[0].cpu_milli = 8000;
  ASSERT_EQ(l.reserve(cpu, written_plan(3).member(0, 0, "a", {})), "");
  cpu.request.gang = {1, 4};
  EXPECT_EQ(l.reserve(cpu, written_plan(4).member(0, 0, "a", {})), "PlanStale");
}

TEST_F(holding, a_plan_that_does_not_satisfy_the_request_is_bad) {
  int tried = 0;
  const uint64_t before = l.digest();
  const auto bad = [&](const wish &w, const written_plan &p, const char *what) {
    EXPECT_EQ(l.reserve(w, p), "PlanBad") << what << l.status.message;
    EXPECT_EQ(l.digest(), before) << what;
    ++tried;
  };
  bad(wish(1), written_plan(2).member(0, 0, "a", {"a-0"}), "another gang");
  bad(wish(1), written_plan(1), "nothing");
  bad(wish(1), written_plan(1).member(0, 0, "x", {"a-0"}), "an unknown node");
  bad(wish(1), written_plan(1).member(0, 0, "a", {"x"}), "an unknown GPU");
  bad(wish(1), written_plan(1).member(0, 0, "a", {"b-0"}), "a GPU of another node");
  bad(wish(1), written_plan(1).member(0, 0, "a", {}), "no GPU");
  bad(wish(1), written_plan(1).member(0, 0, "a", {"a-0", "a-1"}), "two GPUs");
  bad(wish(1), written_plan(1).member(1, 0, "a", {"a-0"}), "no such role");
  bad(wish(1), written_plan(1).member(0, 1, "a", {"a-0"}), "a hole");
  bad(wish(2, 2), written_plan(2).member(0, 0, "a", {"a-0"}), "a member too few");
  bad(wish(1), written_plan(1).member(0, 0, "a", {"a-0"}).member(0, 1, "a", {"a-1"}), "a member too many");
  bad(wish(2, 2), written_plan(2).member(0, 1, "a", {"a-0"}).member(0, 0, "a", {"a-1"}), "out of order");
  bad(wish(1), written_plan(1).member(0, 0, "a", {"a-0"}, THOLE_KIND_VGPU), "another kind");
  bad(wish(1, 2).near("node"), written_plan(1).member(0, 0, "a", {"a-0"}).member(0, 1, "b", {"b-0"}), "two nodes");
  bad(wish(1, 2).near("rack"), written_plan(1).member(0, 0, "a", {"a-0"}).member(0, 1, "c", {"c-0"}), "two racks");
  wish vgpu(1, 1, THOLE_KIND_VGPU);
  vgpu.roles[0].vgpu_memory_mib += 1;
  bad(vgpu, written_plan(1).member(0, 0, "a", {"a-0"}, THOLE_KIND_VGPU), "another size");
  bad(wish(1, 1, THOLE_KIND_VGPU, 2), written_plan(1).member(0, 0, "a", {"a-0", "a-0"}, THOLE_KIND_VGPU),
      "two vGPUs of one GPU for one member");
  printf("%d of %d bad plans refused\n", tried, tried);
  EXPECT_EQ(
      l.reserve(wish(1, 1, THOLE_KIND_VGPU, 2), written_plan(1).member(0, 0, "a", {"a-0", "a-1"}, THOLE_KIND_VGPU)),
      "");
  ASSERT_EQ(l.release(1), "");
  EXPECT_EQ(l.reserve(wish(1), written_plan(1).member(0, 0, "a", {"a-0"}), 10, 10), "ArgumentBad") << "expires then";
  EXPECT_EQ(l.reserve(wish(1), written_plan(1).member(0, 0, "a", {"a-0"}), 0, 0, 2), "ArgumentBad") << "a flag";
}

TEST_F(holding, one_gpu_twice_in_one_plan_is_stale) {
  EXPECT_EQ(l.reserve(wish(1, 2), written_plan(1).member(0, 0, "a", {"a-0"}).member(0, 1, "a", {"a-0"})), "PlanStale");
  EXPECT_EQ(l.holders("a-0"), 0u);
}

// --- adopt

TEST_F(holding, adopt_holds_what_runs_whatever_the_state_says) {
  ASSERT_EQ(l.take(wish(2, 6)), "");
  ASSERT_EQ(l.set_nodes({{"a", {"r1"}, 2, THOLE_NODE_CORDONED}, {"b", {"r1"}, 2, 0, "", THOLE_GPU_UNHEALTHY}}), "");
  written_plan p(1);
  p.member(0, 0, "a", {"a-0"}).member(0, 1, "b", {"b-1"});
  ASSERT_EQ(l.reserve(wish(1, 8).near("node"), p, 0, 0, THOLE_RESERVE_ADOPT), "") << "fewer than min, two nodes, held";
  ASSERT_EQ(l.gangs(1), "");
  EXPECT_EQ(THOLE_AT(l.held.plans, thole_plan, 0)->state, THOLE_GANG_CONFIRMED);
  EXPECT_EQ(l.gpu("a-0").flags & THOLE_GPU_OVERCOMMITTED, THOLE_GPU_OVERCOMMITTED);
  EXPECT_EQ(l.gpu("a-0").free_memory_mib, 0u);
  EXPECT_EQ(l.gpu("a-0").holders, 2u);
  EXPECT_EQ(l.gpu("a-1").flags & THOLE_GPU_OVERCOMMITTED, 0u);
  const uint64_t revision = l.revision();
  EXPECT_EQ(l.reserve(wish(1, 8), p, 0, 0, THOLE_RESERVE_ADOPT), "") << "again";
  EXPECT_EQ(l.revision(), revision);
  ASSERT_EQ(l.release(2), "");
  EXPECT_EQ(l.gpu("a-0").flags & THOLE_GPU_OVERCOMMITTED, 0u);
  EXPECT_EQ(l.holders("a-0"), 1u);
  ASSERT_EQ(l.release(1), "");
  EXPECT_EQ(l.holders("a-0"), 0u);
}

TEST_F(holding, adopt_tolerates_dead_members) {
  wish w(1, 4);
  w.roles[0].ranks_per_member = 2;
  written_plan p(1);
  p.member(0, 1, "a", {"a-0"}).member(0, 3, "b", {"b-0"});
  ASSERT_EQ(l.reserve(w, p, 0, 0, THOLE_RESERVE_ADOPT), "");
  ASSERT_EQ(l.gangs(1), "");
  const auto *held = THOLE_AT(l.held.plans, thole_plan, 0);
  ASSERT_EQ(held->placements.count, 2u);
  const auto *one = THOLE_AT(held->placements, thole_placement, 0),
             *three = THOLE_AT(held->placements, thole_placement, 1);
  EXPECT_EQ(one->member, 1u);
  EXPECT_EQ(one->first_rank, 2u) << "the ranks of the dead are not given to others";
  EXPECT_EQ(three->member, 3u);
  EXPECT_EQ(three->first_rank, 6u);
  EXPECT_EQ(l.reserve(w, p, 0, 0, THOLE_RESERVE_ADOPT), "");
  const auto refused = [&](const written_plan &bad) {
    EXPECT_EQ(l.reserve(wish(2, 4), bad, 0, 0, THOLE_RESERVE_ADOPT), "PlanBad");
  };
  refused(written_plan(2).member(0, 4, "a", {"a-1"}));
  refused(written_plan(2).member(0, 2, "a", {"a-1"}).member(0, 2, "b", {"b-1"}));
  refused(written_plan(2).member(0, 2, "a", {"a-1"}).member(0, 1, "b", {"b-1"}));
}

TEST_F(holding, adopt_reads_first_ranks_where_the_last_of_a_role_are_dead) {
  wish w(1, 2);
  w.roles.push_back(w.roles[0]);
  w.roles[1].name = THOLE_STR("second");
  w.roles[1].members = 1;
  w.roles[1].min_members = 1;
  w.request.roles = list(w.roles);
  written_plan p(1);
  p.member(0, 0, "a", {"a-0"}).member(1, 0, "b", {"b-0"}).from_rank(2);
  ASSERT_EQ(l.reserve(w, p, 0, 0, THOLE_RESERVE_ADOPT), "");
  ASSERT_EQ(l.gangs(1), "");
  EXPECT_EQ(THOLE_AT(THOLE_AT(l.held.plans, thole_plan, 0)->placements, thole_placement, 1)->first_rank, 2u);
}

TEST_F(holding, adopt_leaves_out_a_gpu_that_fell_off_the_bus) {
  written_plan p(1);
  wish w(1, 1);
  w.roles[0].devices = 2;
  p.member(0, 0, "a", {"a-0", "gone"});
  ASSERT_EQ(l.reserve(w, p, 0, 0, THOLE_RESERVE_ADOPT), "");
  ASSERT_EQ(l.gangs(1), "");
  EXPECT_EQ(THOLE_AT(THOLE_AT(l.held.plans, thole_plan, 0)->placements, thole_placement, 0)->grants.count, 1u);
  EXPECT_EQ(l.holders("a-0"), 1u);
}

TEST_F(holding, adopt_takes_the_place_of_what_was_held) {
  written_plan both(1), one(1);
  both.member(0, 0, "a", {"a-0"}).member(0, 1, "b", {"b-0"});
  one.member(0, 1, "b", {"b-0"});
  ASSERT_EQ(l.reserve(wish(1, 2), both, 0, 0, THOLE_RESERVE_ADOPT), "");
  ASSERT_EQ(l.reserve(wish(1, 2), one, 0, 0, THOLE_RESERVE_ADOPT), "");
  EXPECT_EQ(l.holders("a-0"), 0u);
  EXPECT_EQ(l.holders("b-0"), 1u);
  EXPECT_EQ(l.reserve(wish(1, 2), both), "GangExists") << "without the flag nothing is taken away";
}

TEST_F(holding, adopt_confirms_what_was_reserved) {
  const wish w(1, 2);
  ASSERT_EQ(l.plan(w), "");
  ASSERT_EQ(l.reserve(w, l.answer, 0, 100), "");
  ASSERT_EQ(l.reserve(w, l.answer, 50, 0, THOLE_RESERVE_ADOPT), "");
  ASSERT_EQ(l.gangs(1, "", INT64_MAX), "");
  EXPECT_EQ(THOLE_AT(l.held.plans, thole_plan, 0)->state, THOLE_GANG_CONFIRMED);
}

// --- confirm, cancel, release; time

// All orders of four calls, each up to twice: whatever was called, the ledger is that of one of the three states.
TEST_F(holding, bears_every_order_and_repetition) {
  const wish w(1, 3);
  ASSERT_EQ(l.plan(w), "");
  const uint64_t free = l.digest();
  ASSERT_EQ(l.reserve(w, l.answer), "");
  const uint64_t reserved = l.digest();
  ASSERT_EQ(l.confirm(1), "");
  const uint64_t confirmed = l.digest();
  ASSERT_EQ(l.release(1), "");
  std::vector<int> order = {0, 0, 1, 1, 2, 2, 3, 3};
  int orders = 0;
  do {
    uint64_t is = free;
    for (const int call : order) {
      std::string expected;
      if (call == 0) {
        if (is == free) is = reserved;
        ASSERT_EQ(l.reserve(w, l.answer), "");
      } else if (call == 1) {
        ASSERT_EQ(l.confirm(1), is == free ? "GangUnknown" : "");
        if (is == reserved) is = confirmed;
      } else if (call == 2) {
        ASSERT_EQ(l.cancel(1), is == confirmed ? "GangConfirmed" : "");
        if (is == reserved) is = free;
      } else {
        ASSERT_EQ(l.release(1), "");
        is = free;
      }
      ASSERT_EQ(l.digest(), is);
    }
    ASSERT_EQ(l.release(1), "");
    ++orders;
  } while (std::next_permutation(order.begin(), order.end()));
  printf("%d orders of eight calls\n", orders);
}

TEST_F(holding, ends_exactly_at_its_expiry) {
  const wish w(1, 6);
  const uint64_t before = l.digest();
  ASSERT_EQ(l.take(w, 0, 100), "");
  EXPECT_EQ(l.plan(wish(2), 99), "GangNoFitInCluster");
  EXPECT_EQ(l.plan(wish(2), 100), "");
  EXPECT_EQ(l.holders("a-0", 99), 1u);
  EXPECT_EQ(l.holders("a-0", 100), 0u);
  EXPECT_EQ(l.digest(100), before);
  EXPECT_EQ(l.gangs(1, "", 100), "GangUnknown");
  EXPECT_EQ(l.confirm(1, 100), "GangUnknown");
  EXPECT_EQ(l.gangs(1, "", 99), "") << "a clock that is set back makes it live longer";
  EXPECT_EQ(l.confirm(1, 99), "");
  EXPECT_EQ(l.gangs(1, "", INT64_MAX), "") << "an allocation does not expire";
}

TEST_F(holding, gives_way_once_it_has_expired) {
  ASSERT_EQ(l.take(wish(1, 6), 0, 100), "");
  ASSERT_EQ(l.take(wish(2, 3), 100, 0), "");
  EXPECT_EQ(l.gangs(1, "", 0), "GangUnknown") << "it was dropped for the other";
  EXPECT_EQ(l.confirm(1, 50), "GangUnknown");
  ASSERT_EQ(l.release(2), "");
  ASSERT_EQ(l.take(wish(1, 6), 200, 300), "");
  ASSERT_EQ(l.take(wish(1, 4), 300, 400), "") << "the same id with other placements after it has expired";
}

// A reservation that was the last on a removed node, or on a GPU that is gone, expires in favour of another.
TEST_F(holding, may_be_the_last_of_a_node_when_it_expires) {
  ASSERT_EQ(l.reserve(wish(1, 2), written_plan(1).member(0, 0, "a", {"a-0"}).member(0, 1, "b", {"b-1"}), 0, 100), "");
  ASSERT_EQ(l.remove_node("a"), "");
  ASSERT_EQ(l.set_nodes({{"b", {"r1"}, 1}}), "");
  ASSERT_EQ(l.take(wish(2, 3), 100), "");
  EXPECT_EQ(l.places(), "b c c");
  ASSERT_EQ(l.gangs(2, "", 100), "");
  std::set<std::string> held;
  for (uint64_t i = 0; i < 3; ++i) {
    const auto *p = THOLE_AT(THOLE_AT(l.held.plans, thole_plan, 0)->placements, thole_placement, i);
    held.insert(text(p->node) + " " + text(THOLE_AT(p->grants, thole_grant, 0)->uuid));
  }
  EXPECT_EQ(held, (std::set<std::string>{"b b-0", "c c-0", "c c-1"}));
  ASSERT_EQ(l.look("", 100), "");
  EXPECT_EQ(l.usage.gpus.count, 3u) << "a and b-1 are gone";
}

// --- gangs, usage

TEST_F(holding, is_listed_by_gang_by_node_and_in_the_order_of_ids) {
  ASSERT_EQ(l.reserve(wish(3), written_plan(3).member(0, 0, "a", {"a-0"})), "");
  ASSERT_EQ(l.reserve(wish(2, 2), written_plan(2).member(0, 0, "a", {"a-1"}).member(0, 1, "b", {"b-0"})), "");
  ASSERT_EQ(l.gangs(), "");
  ASSERT_EQ(l.held.plans.count, 2u);
  EXPECT_EQ(THOLE_AT(l.held.plans, thole_plan, 0)->gang.lo, 2u);
  EXPECT_EQ(THOLE_AT(l.held.plans, thole_plan, 1)->gang.lo, 3u);
  ASSERT_EQ(l.gangs(0, "b"), "");
  ASSERT_EQ(l.held.plans.count, 1u);
  EXPECT_EQ(THOLE_AT(l.held.plans, thole_plan, 0)->placements.count, 2u) << "the whole gang";
  ASSERT_EQ(l.gangs(0, "c"), "");
  EXPECT_EQ(l.held.plans.count, 0u);
  ASSERT_EQ(l.gangs(0, "unknown"), "");
  EXPECT_EQ(l.held.plans.count, 0u);
  EXPECT_EQ(l.gangs(3, "b"), "GangUnknown");
  EXPECT_EQ(l.gangs(9), "GangUnknown");
  ASSERT_EQ(l.look("a"), "");
  ASSERT_EQ(l.usage.gpus.count, 2u);
  EXPECT_EQ(text(THOLE_AT(l.usage.gpus, thole_gpu_use, 0)->uuid), "a-0");
  ASSERT_EQ(l.look("unknown"), "");
  EXPECT_EQ(l.usage.gpus.count, 0u);
}

TEST_F(holding, usage_says_what_one_more_vgpu_could_have) {
  ASSERT_EQ(l.reserve(wish(1, 1, THOLE_KIND_VGPU), written_plan(1).member(0, 0, "a", {"a-0"}, THOLE_KIND_VGPU)), "");
  const auto g = l.gpu("a-0");
  EXPECT_EQ(g.free_memory_mib, 80 * gib - (10 * gib + 500) - 500);
  EXPECT_EQ(g.free_share_milli, 900u);
  EXPECT_EQ(g.memory_mib, 80 * gib);
  ASSERT_EQ(l.reserve(wish(2), written_plan(2).member(0, 0, "a", {"a-1"})), "");
  EXPECT_EQ(l.gpu("a-1").free_memory_mib, 0u);
  EXPECT_EQ(l.gpu("a-1").free_share_milli, 0u);
  EXPECT_EQ(l.gpu("b-0").free_memory_mib, 80 * gib - 500);
}

// --- the state folder

TEST(state, is_the_same_ledger_after_a_restart) {
  folder f;
  uint64_t digest = 0, revision = 0;
  {
    ledger l(f.path);
    ASSERT_EQ(l.set_nodes(three()), "");
    ASSERT_EQ(l.take(wish(1, 2), 0, 1000), "");
    ASSERT_EQ(l.take(wish(2, 1, THOLE_KIND_VGPU)), "");
    ASSERT_EQ(l.confirm(2), "");
    ASSERT_EQ(l.take(wish(3, 1), 0, 10), "");
    ASSERT_EQ(l.take(wish(4, 1), 20), "") << "drops what has expired";
    ASSERT_EQ(l.remove_node("a"), "");
    ASSERT_EQ(l.set_nodes({{"aa", {"r7"}}}), "");
    ASSERT_EQ(l.remove_node("c"), "");
    digest = l.digest(), revision = l.revision();
  }
  ledger again(f.path);
  EXPECT_EQ(again.digest(), digest);
  EXPECT_EQ(again.revision(), revision);
  // The same history in memory only.
  ledger fresh;
  ASSERT_EQ(fresh.set_nodes({{"aa", {"r7"}}}), "");
  ASSERT_EQ(fresh.set_nodes(three()), "");
  ASSERT_EQ(again.gangs(), "");
  for (uint64_t i = 0; i < again.held.plans.count; ++i) {
    const auto *p = THOLE_AT(again.held.plans, thole_plan, i);
    const bool vgpu = p->gang.lo == 2;
    const wish w(p->gang.lo, static_cast<uint32_t>(p->placements.count), vgpu ? THOLE_KIND_VGPU : THOLE_KIND_WHOLE);
    ASSERT_EQ(fresh.reserve(w, *p, 0, p->expires_ns), "") << fresh.status.message;
    if (p->state == THOLE_GANG_CONFIRMED) {
      ASSERT_EQ(fresh.confirm(p->gang.lo), "");
    }
  }
  ASSERT_EQ(fresh.remove_node("a"), "");
  ASSERT_EQ(fresh.remove_node("c"), "");
  EXPECT_EQ(fresh.digest(), digest) << "of what is known and held, not of how it came about";
}

TEST(state, of_one_folder_is_one_ledger_for_two_cores) {
  folder f;
  ledger a(f.path), b(f.path);
  ASSERT_EQ(a.set_nodes(three()), "");
  ASSERT_EQ(b.take(wish(1, 4)), "");
  EXPECT_EQ(a.plan(wish(2, 4)), "GangNoFitInCluster");
  ASSERT_EQ(a.release(1), "");
  EXPECT_EQ(b.confirm(1), "GangUnknown");
  EXPECT_EQ(a.digest(), b.digest());
  ASSERT_EQ(a.plan(wish(2, 6)), "");
  ASSERT_EQ(b.take(wish(3, 1)), "");
  EXPECT_EQ(a.reserve(wish(2, 6), a.answer), "PlanStale");
}

// One of two processes: takes and gives back gangs, planning again whenever the other was faster.
[[noreturn]] void compete(const std::string &path, uint64_t who) {
  {
    ledger l(path);
    for (uint64_t i = 0; i < 100; ++i) {
      const wish w(who << 32 | i, 1 + static_cast<uint32_t>(i % 3));
      std::string took = l.take(w);
      while (took == "PlanStale") took = l.take(w);
      if (took.empty() && l.confirm(who << 32 | i) != "") _exit(3);
      if (!took.empty() && took != "GangNoFitInCluster") _exit(4);
      if (i > 0 && l.release(who << 32 | (i - 1)) != "") _exit(5);
    }
  }
  _exit(0);
}

TEST(state, is_shared_by_two_processes_that_never_hold_a_gpu_twice) {
  folder f;
  ledger l(f.path);
  ASSERT_EQ(l.set_nodes(three()), "");
  fflush(nullptr);
  std::vector<pid_t> children;
  for (uint64_t who = 1; who <= 2; ++who) {
    const pid_t child = fork();
    if (child == 0) compete(f.path, who);
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  ASSERT_EQ(l.gangs(), "");
  std::map<std::string, int> holders;
  for (uint64_t i = 0; i < l.held.plans.count; ++i) {
    const auto *p = THOLE_AT(l.held.plans, thole_plan, i);
    for (uint64_t m = 0; m < p->placements.count; ++m)
      ++holders[text(THOLE_AT(THOLE_AT(p->placements, thole_placement, m)->grants, thole_grant, 0)->uuid)];
  }
  EXPECT_FALSE(holders.empty());
  for (const auto &[uuid, n] : holders) EXPECT_EQ(n, 1) << uuid;
}

}  // namespace
