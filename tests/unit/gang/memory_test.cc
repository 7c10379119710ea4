// Memory that runs out, at every allocation of every call: the call throws std::bad_alloc, nothing has changed, and the
// same call then does what it would have done. With a journal what was written has happened, even if the call was told.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>

#include "gang/engine.h"

namespace {

// Allocations until one fails; negative: none does.
std::atomic<long> countdown{-1};
std::atomic<bool> failed{false};

void *allocate(std::size_t size) {
  if (countdown >= 0 && countdown-- == 0) {
    failed = true;
    return nullptr;
  }
  return std::malloc(size == 0 ? 1 : size);
}

}  // namespace

[[gnu::noinline]] void *operator new(std::size_t size) {
  if (void *p = allocate(size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void *operator new(std::size_t size, const std::nothrow_t &) noexcept {
  return allocate(size);
}
[[gnu::noinline]] void operator delete(void *p) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void *p, std::size_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void *p, const std::nothrow_t &) noexcept {
  std::free(p);
}

namespace {

using namespace thole;
using model::device_kind;

model::node node_of(const std::string &name, const std::string &rack, int gpus, bool mig = false) {
  model::node n{name, {rack}, 8000, 8000, 0, {}};
  for (int g = 0; g < gpus; ++g) {
    n.devices.push_back({"SIM-a-device-with-a-long-name-" + name + "-" + std::to_string(g), "M", 81920, 500, 0, 0, {}});
    if (!mig) continue;
    n.devices.back().flags = THOLE_GPU_MIG;
    n.devices.back().mig = {{"1g", 10000, 7, 142, {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}}}};
  }
  return n;
}

model::role role_of(std::string_view name, uint32_t members, device_kind kind, uint32_t devices) {
  model::role r;
  r.name = name;
  r.members = members;
  r.kind = kind;
  r.devices = devices;
  r.cpu_milli = 100;
  if (kind == device_kind::vgpu) r.vgpu_memory_mib = 10000, r.share_milli = 100;
  if (kind == device_kind::mig) r.mig_profile = "1g";
  return r;
}

model::gang_request gang_of(uint64_t id, std::vector<model::role> roles, std::string_view near = {}) {
  model::gang_request q;
  q.gang = {1, id};
  q.roles = std::move(roles);
  if (!near.empty()) q.topology = {{near, true}};
  EXPECT_TRUE(model::check(q));
  return q;
}

using call = std::function<bool(gang::engine &)>;

bool take(gang::engine &e, const model::gang_request &q, gang::reservation terms = {}) {
  const auto plan = e.plan(q, terms.now_ns);
  // It holds something already, if an earlier try came through.
  return plan ? e.reserve(q, *plan, terms).has_value() : plan.error().why == reason::GangExists;
}

// Every kind of change; each call may be made twice.
std::vector<call> a_life() {
  static const auto mixed = gang_of(1, {role_of("a", 2, device_kind::whole, 1), role_of("b", 2, device_kind::vgpu, 2)});
  static const auto slices = gang_of(2, {role_of("s", 5, device_kind::mig, 2)});
  static const auto short_lived = gang_of(3, {role_of("w", 2, device_kind::whole, 1)}, "rack");
  static const auto too_large =
      gang_of(4, {role_of("w", 50, device_kind::whole, 1), role_of("c", 1, device_kind::none, 0)});
  static const auto again = gang_of(3, {role_of("w", 1, device_kind::vgpu, 1)});
  static const auto adopted = gang_of(5, {role_of("s", 2, device_kind::mig, 1)});
  return {
      [](auto &e) { return e.set_levels({"rack"}).has_value(); },
      [](auto &e) {
        return e.set_nodes({node_of("b", "r1", 4), node_of("a", "r1", 2)}).has_value();
      },
      [](auto &e) {
        return e.set_nodes({node_of("m", "r2", 2, true), node_of("c", "r2", 2)}).has_value();
      },
      [](auto &e) { return take(e, mixed); },
      [](auto &e) {
        return take(e, slices, {5, 50, false});
      },
      [](auto &e) {
        return e.confirm({1, 2}, 20).has_value();
      },
      [](auto &e) {
        return take(e, short_lived, {20, 100, false});
      },
      [](auto &e) { return !e.plan(too_large, 20).has_value(); },
      [](auto &e) { return e.explain(too_large, 20).has_value(); },
      // The expired gang is dropped for another one, of its own name.
      [](auto &e) {
        return take(e, again, {200, 300, false});
      },
      [](auto &e) {
        const auto held = e.gangs({1, 3}, "", 200);
        return held && e.reserve(again, held->front(), {200, 400, false}).has_value();
      },
      // Held devices leave the list, a held node leaves; both go with who holds them.
      [](auto &e) {
        return e.set_nodes({node_of("a", "r1", 0), node_of("b", "r2", 3)}).has_value();
      },
      [](auto &e) { return e.remove_node("m").has_value(); },
      [](auto &e) {
        const auto held = e.gangs({1, 2}, "", 200);
        if (!held) return true;
        auto plan = held->front();
        plan.gang = {1, 5};
        plan.placements.resize(2);
        for (auto &p : plan.placements) p.first_grant = p.grants = 1;
        return e.reserve(adopted, plan, {200, 0, true}).has_value();
      },
      [](auto &e) {
        return e.release({1, 2}).has_value();
      },
      [](auto &e) {
        return e.release({1, 5}).has_value();
      },
      [](auto &e) {
        return e.release({1, 1}).has_value();
      },
      [](auto &e) { return e.remove_node("a").has_value(); },
      [](auto &e) { return e.set_nodes({node_of("d", "r3", 1)}).has_value(); },
      [](auto &e) {
        return e.cancel({1, 3}).has_value();
      },
  };
}

// What is known and held, added up in two ways.
std::string print_of(gang::engine &e) {
  const auto now = e.usage("", 0);
  const auto held = e.gangs({}, "", 0);
  if (!now || !held) return "an error";
  std::string out = std::to_string(now->revision) + " " + std::to_string(now->digest);
  for (const auto &d : now->devices)
    out += " " + std::string(d.uuid) + ":" + std::to_string(d.holders) + ":" + std::to_string(d.free_memory_mib) + ":" +
           std::to_string(d.free_share_milli) + ":" + std::to_string(d.flags);
  return out + " " + std::to_string(held->size());
}

struct place {
  explicit place(bool journal) {
    if (!journal) return;
    std::string name = (std::filesystem::temp_directory_path() / "thole-memory-XXXXXX").string();
    folder = ::mkdtemp(name.data());
  }
  ~place() {
    if (!folder.empty()) std::filesystem::remove_all(folder);
  }
  std::unique_ptr<gang::engine> open() const { return *gang::engine::open(folder, log_sink{}, 3000); }
  std::string folder;
};

class Memory : public ::testing::TestWithParam<bool> {};

TEST_P(Memory, IsOutAtEveryAllocationOfEveryCall) {
  const bool journal = GetParam();
  const std::vector<call> life = a_life();
  std::vector<std::string> prints;
  {
    const place p(journal);
    auto e = p.open();
    prints.push_back(print_of(*e));
    for (const call &c : life) {
      ASSERT_TRUE(c(*e)) << "call " << prints.size() - 1;
      prints.push_back(print_of(*e));
    }
  }
  // Each try with a journal makes files: of its points every thirteenth.
  const long stride = journal ? 13 : 1;
  long points = 0, told = 0;
  for (std::size_t k = 0; k < life.size(); ++k) {
    for (long n = 0;; n += stride) {
      const place p(journal);
      auto e = p.open();
      for (std::size_t i = 0; i < k; ++i) ASSERT_TRUE(life[i](*e));
      bool thrown = false, done = false;
      failed = false;
      countdown = n;
      try {
        done = life[k](*e);
      } catch (const std::bad_alloc &) {
        thrown = true;
      }
      countdown = -1;
      if (!failed) break;
      ++points;
      told += thrown ? 1 : 0;
      ASSERT_TRUE(thrown || done) << "call " << k << ", allocation " << n;
      const std::string print = print_of(*e);
      const bool as_before = print == prints[k], as_after = print == prints[k + 1];
      // What is in the journal has happened, even where the call ran out of memory afterwards.
      if (thrown && !journal) {
        ASSERT_TRUE(as_before) << "call " << k << ", allocation " << n << "\n" << print << "\n" << prints[k];
      }
      ASSERT_TRUE(as_before || as_after) << "call " << k << ", allocation " << n << "\n" << print;
      ASSERT_TRUE(thrown || as_after) << "call " << k << ", allocation " << n;
      for (std::size_t i = k; i < life.size(); ++i) ASSERT_TRUE(life[i](*e)) << "call " << k << ", allocation " << n;
      ASSERT_EQ(print_of(*e), prints.back()) << "call " << k << ", allocation " << n;
      if (journal) {
        ASSERT_EQ(print_of(*p.open()), prints.back()) << "call " << k << ", allocation " << n;
      }
    }
  }
  std::printf("%ld of %ld points: the ledger is whole; %ld of them told\n", points, points, told);
  EXPECT_GT(told, journal ? 50 : 500);
}

INSTANTIATE_TEST_SUITE_P(Kept, Memory, ::testing::Bool(),
                         [](const auto &info) { return info.param ? "in_a_journal" : "in_memory"; });

}  // namespace
