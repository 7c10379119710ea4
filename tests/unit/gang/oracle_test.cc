// The engine against brute force on small random clusters. The rule for a right answer:
//   no false yes   every plan is checked, device by device, by code that is not the engine's
//   no false no    where the engine refuses, brute force finds nothing either
//   the best       the gang's level, each role's level and each role's number of members, in this order, are the best
//                  that brute force finds (search.h states the order)
// A feature has decided a case if the answer is another one when the feature alone is taken out of the request.
// THOLE_ORACLE_CASES sets the number of cases.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

#include "brute_force.h"
#include "gang/engine.h"
#include "scenes.h"

namespace {

using namespace thole;
using namespace scenes;
using model::gang_plan;

// [widest, narrowest] of a list of wishes, as the contract says; written again on purpose.
std::pair<int, int> span_of(const std::vector<model::nearness> &wishes, int levels) {
  int widest = -1, narrowest = -1;
  for (const auto &w : wishes) {
    int l = levels;
    for (int i = 0; i < levels; ++i)
      if (w.level == level_names[static_cast<std::size_t>(i)]) l = i;
    if (w.required) widest = l;
    narrowest = l;
  }
  return {widest, std::max(widest, narrowest)};
}

struct best {
  int verdict = 0;  // 1, 0, or -1: brute force gave up
  int level = -1;
  std::vector<int> levels;
  std::vector<uint32_t> members;
};

best by_brute_force(brute::cluster &c, const gang_request &q, int levels) {
  best b;
  const auto [gang_widest, gang_narrowest] = span_of(q.topology, levels);
  for (const auto &r : q.roles) {
    b.levels.push_back(span_of(r.topology, levels).first);
    b.members.push_back(r.min_members);
  }
  const auto ask = [&] { return c.fits(q, b.members, b.level, b.levels); };
  for (b.level = gang_narrowest; b.level >= gang_widest; --b.level)
    if ((b.verdict = ask()) != 0) break;
  if (b.verdict != 1) return b;
  for (std::size_t r = 0; r < q.roles.size(); ++r) {
    const auto [widest, narrowest] = span_of(q.roles[r].topology, levels);
    for (b.levels[r] = narrowest; b.levels[r] > widest; --b.levels[r]) {
      const int v = ask();
      if (v < 0) return b.verdict = -1, b;
      if (v == 1) break;
    }
  }
  for (std::size_t r = 0; r < q.roles.size(); ++r)
    for (; b.members[r] < q.roles[r].members; ++b.members[r]) {
      ++b.members[r];
      const int v = ask();
      --b.members[r];
      if (v < 0) return b.verdict = -1, b;
      if (v == 0) break;
    }
  return b;
}

// Members of each role, and whether they keep the levels.
std::vector<uint32_t> members_of(const gang_plan &p, std::size_t roles) {
  std::vector<uint32_t> out(roles, 0);
  for (const auto &at : p.placements) ++out[at.role];
  return out;
}
bool keeps(const brute::cluster &c, const gang_plan &p, int level, const std::vector<int> &levels) {
  std::map<uint32_t, std::size_t> first;
  for (const auto &at : p.placements) {
    const std::size_t n = c.index(at.node);
    if (!c.same_domain(level, n, c.index(p.placements[0].node))) return false;
    if (!c.same_domain(levels[at.role], n, first.try_emplace(at.role, n).first->second)) return false;
  }
  return true;
}

enum feature {
  whole,
  mig,
  vgpu,
  share,
  cpu,
  memory,
  roles,
  elastic,
  required,
  preferred,
  role_required,
  model_,
  label,
  feature_count
};
constexpr std::array<const char *, feature_count> feature_names = {"whole GPUs",
                                                                   "MIG instances",
                                                                   "vGPUs",
                                                                   "vGPU share",
                                                                   "cpu",
                                                                   "memory",
                                                                   "roles",
                                                                   "elastic members",
                                                                   "topology required",
                                                                   "topology preferred",
                                                                   "role topology required",
                                                                   "GPU model",
                                                                   "node label"};

// The request without the feature; false if it has none of it.
bool without(feature f, gang_request &q) {
  bool had = false;
  const auto bare = [&](model::role &r, device_kind kind) {
    if (r.kind != kind) return;
    had = true;
    r.kind = device_kind::none;
    r.devices = 0, r.share_milli = 0, r.vgpu_memory_mib = 0;
    r.mig_profile = r.gpu_model = {};
  };
  const auto drop = [&](std::vector<model::nearness> &t, bool is_required) {
    had = std::erase_if(t, [&](const model::nearness &w) { return w.required == is_required; }) > 0 || had;
  };
  for (auto &r : q.roles) {
    if (f == whole) bare(r, device_kind::whole);
    if (f == mig) bare(r, device_kind::mig);
    if (f == vgpu) bare(r, device_kind::vgpu);
    if (f == share && r.share_milli > 0) had = true, r.share_milli = 0;
    if (f == cpu && r.cpu_milli > 0) had = true, r.cpu_milli = 0;
    if (f == memory && r.memory_mib > 0) had = true, r.memory_mib = 0;
    if (f == elastic && r.min_members < r.members) had = true, r.min_members = r.members;
    if (f == role_required) drop(r.topology, true);
    if (f == preferred) drop(r.topology, false);
    if (f == model_ && !r.gpu_model.empty()) had = true, r.gpu_model = {};
    if (f == label && !r.label.empty()) had = true, r.label = {};
  }
  if (f == roles && q.roles.size() > 1) had = true, q.roles.resize(1);
  if (f == required) drop(q.topology, true);
  if (f == preferred) drop(q.topology, false);
  return had;
}

struct tally {
  std::array<std::atomic<uint64_t>, feature_count> decided{};
  std::atomic<uint64_t> yes{0}, no{0}, gave_up{0}, bound{0};
  std::mutex mutex;
  std::vector<std::string> wrong;
  void say(uint64_t seed, const std::string &what) {
    const std::lock_guard lock(mutex);
    if (wrong.size() < 20) wrong.push_back("case " + std::to_string(seed) + ": " + what);
  }
};

constexpr uint64_t enough_decided = 1500;

void count_features(gang::engine &e, const scene &s, const brute::cluster &c, const result<gang_plan> &plan,
                    const best &b, tally &t) {
  for (int f = 0; f < feature_count; ++f) {
    auto &decided = t.decided[static_cast<std::size_t>(f)];
    if (decided >= enough_decided) continue;
    gang_request other = s.request;
    if (!without(static_cast<feature>(f), other)) continue;
    const auto changed = e.plan(other, 0);
    bool flips = changed.has_value() != plan.has_value();
    // A preference decides where, not whether.
    if (f == preferred) flips = plan && changed && !keeps(c, *changed, b.level, b.levels);
    decided += flips ? 1 : 0;
  }
}

// Of dice of their own: what the other tests make of these scenes is pinned.
void give_labels(dice d, std::vector<node> &nodes) {
  for (node &n : nodes)
    for (const char *label : {"x", "y"})
      if (d.chance(70)) n.labels.emplace_back(label);
}

void ask_for_labels(dice d, gang_request &q) {
  for (model::role &r : q.roles)
    if (d.chance(20)) r.label = d.chance(50) ? "x" : "y";
}

void one_case(uint64_t seed, tally &t) {
  dice d(seed);
  scene s;
  s.levels = static_cast<int>(d.upto(3));
  s.nodes = random_nodes(d, s.levels);
  give_labels(dice(~seed), s.nodes);
  auto e = *gang::engine::open("", log_sink{});
  std::vector<std::string> levels;
  for (int l = 0; l < s.levels; ++l) levels.emplace_back(level_names[static_cast<std::size_t>(l)]);
  if (!e->set_levels(levels) || !e->set_nodes(s.nodes)) return t.say(seed, "the nodes are refused");
  brute::cluster c(s.nodes, s.levels);

  // What is held before: some gangs of one role.
  for (uint64_t id = 100, held = d.upto(2); held > 0; --held, ++id) {
    gang_request q = random_request(d, s.levels, id, true);
    if (!model::check(q)) return t.say(seed, "the first request is refused");
    const auto plan = e->plan(q, 0);
    if (!plan) continue;
    if (const std::string what = c.take(*plan, q); !what.empty()) return t.say(seed, "false yes before: " + what);
    if (!e->reserve(q, *plan, {})) return t.say(seed, "a fresh plan is refused");
  }

  s.request = random_request(d, s.levels, 1, false);
  ask_for_labels(dice(~seed ^ 1), s.request);
  if (!model::check(s.request)) return t.say(seed, "the request is refused");
  const auto plan = e->plan(s.request, 0);
  const best b = by_brute_force(c, s.request, s.levels);
  if (!plan && plan.error().why == reason::GangSearchBound) return void(++t.bound);
  if (b.verdict < 0) ++t.gave_up;
  if (plan) {
    ++t.yes;
    brute::cluster check = c;
    if (const std::string what = check.take(*plan, s.request); !what.empty()) return t.say(seed, "false yes: " + what);
    if (b.verdict == 0) return t.say(seed, "a yes that brute force does not find");
    if (b.verdict == 1 && !keeps(c, *plan, b.level, b.levels)) return t.say(seed, "a wider domain than need be");
    if (b.verdict == 1 && members_of(*plan, s.request.roles.size()) != b.members)
      return t.say(seed, "other numbers of members than the best");
    if (!e->reserve(s.request, *plan, {}) || !e->release(s.request.gang)) return t.say(seed, "the plan is refused");
  } else {
    ++t.no;
    if (plan.error().code() != THOLE_NO_FIT) return t.say(seed, std::string(plan.error().text()));
    if (b.verdict == 1) return t.say(seed, "false no: " + std::string(plan.error().text()));
  }
  if (b.verdict >= 0) count_features(*e, s, c, plan, b, t);
}

TEST(Oracle, AgreesWithBruteForceOnSmallClusters) {
  const char *wanted = std::getenv("THOLE_ORACLE_CASES");
  const uint64_t cases = wanted == nullptr ? 120000 : std::strtoull(wanted, nullptr, 10);
  tally t;
  std::atomic<uint64_t> next{0};
  const auto work = [&] {
    for (uint64_t seed = next++; seed < cases; seed = next++) one_case(seed, t);
  };
  std::thread other(work);
  work();
  other.join();

  const uint64_t decided = t.yes + t.no;
  std::printf("%llu of %llu cases: %llu fit, %llu do not; %llu beyond the engine's bound, %llu beyond brute force's\n",
              static_cast<unsigned long long>(decided), static_cast<unsigned long long>(cases),
              static_cast<unsigned long long>(t.yes), static_cast<unsigned long long>(t.no),
              static_cast<unsigned long long>(t.bound), static_cast<unsigned long long>(t.gave_up));
  for (const std::string &w : t.wrong) ADD_FAILURE() << w;
  EXPECT_EQ(t.bound, 0u) << "on small clusters the search is exhaustive";
  EXPECT_LE(t.gave_up * 100, cases) << "brute force must decide nearly all";
  for (std::size_t f = 0; f < feature_count; ++f) {
    std::printf("  %-24s decided %llu%s\n", feature_names[f], static_cast<unsigned long long>(t.decided[f]),
                t.decided[f] >= enough_decided ? " or more" : "");
    EXPECT_TRUE(cases < 100000 || t.decided[f] >= 1000u) << feature_names[f];
  }
  EXPECT_TRUE(cases < 100000 || decided - t.gave_up >= 100000u);
}

}  // namespace
