// Core.h's promise about threads: every slot from any thread. 64 threads on one core; with the preset tsan, a race
// shows.
#include <atomic>
#include <thread>

#include "slots.h"

using namespace host;

namespace {

constexpr int many = 64;

template <class F>
void side_by_side(F f) {
  std::vector<std::thread> threads;
  for (int i = 0; i < many; ++i) threads.emplace_back(f, i);
  for (auto &t : threads) t.join();
}

TEST(threads, place_and_release_on_one_ledger) {
  world w;
  w.open();
  const auto *t = root()->gang;
  std::atomic<int> held{0}, crowded{0}, wrong{0};
  side_by_side([&](int i) {
    thole_gang_request request = w.request;
    request.gang = {100, static_cast<uint64_t>(i) + 1};
    for (int round = 0; round < 20; ++round) {
      auto plan = sized<thole_plan>();
      lent m;
      const thole_code planned = t->plan(w.core, &request, 0, &plan, &m.room, nullptr);
      if (planned == THOLE_NO_FIT) {
        ++crowded;
        continue;
      }
      const auto reservation = sized<thole_reservation>();
      const thole_code reserved =
          planned == THOLE_OK ? t->reserve(w.core, &request, &plan, &reservation, nullptr) : planned;
      if (reserved == THOLE_CONFLICT) {
        ++crowded;
        continue;
      }
      if (reserved != THOLE_OK || t->confirm(w.core, request.gang, 0, nullptr) != THOLE_OK ||
          t->release(w.core, request.gang, nullptr) != THOLE_OK)
        ++wrong;
      else ++held;
    }
  });
  printf("%d placed, %d found it taken, %d wrong\n", held.load(), crowded.load(), wrong.load());
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(held, many);
  auto usage = sized<thole_usage>();
  const auto query = sized<thole_gang_query>();
  lent m;
  ASSERT_EQ(t->usage(w.core, &query, &usage, &m.room, nullptr), THOLE_OK);
  for (uint64_t i = 0; i < usage.gpus.count; ++i)
    EXPECT_EQ(THOLE_AT(usage.gpus, thole_gpu_use, i)->free_share_milli, 1000u) << "all was given back";
}

TEST(threads, call_every_slot_while_cores_come_and_go) {
  world w;
  w.open();
  w.make_key();
  std::atomic<int> calls{0};
  side_by_side([&](int i) {
    if (i % 4 == 0) {
      for (int round = 0; round < 20; ++round) {
        thole_core core{};
        if (root()->core->open(nullptr, &core, nullptr) == THOLE_OK) root()->core->close(core, nullptr);
      }
      return;
    }
    const auto query = sized<thole_gang_query>();
    for (int round = 0; round < 20; ++round, ++calls) {
      auto usage = sized<thole_usage>();
      auto why = sized<thole_explanation>();
      lent m;
      root()->gang->usage(w.core, &query, &usage, &m.room, nullptr);
      root()->gang->explain(w.core, &w.request, 0, &why, &m.room, nullptr);
      thole_str text{};
      root()->metrics->render(w.core, &text, &m.room, nullptr);
    }
  });
  printf("%d rounds\n", calls.load());
}

TEST(threads, close_waits_for_the_calls_of_others) {
  for (int round = 0; round < 50; ++round) {
    world w;
    w.open();
    std::atomic<bool> wrong{false};
    std::vector<std::thread> callers;
    for (int i = 0; i < 8; ++i)
      callers.emplace_back([&] {
        auto usage = sized<thole_usage>();
        const auto query = sized<thole_gang_query>();
        lent m;
        for (;;) {
          const thole_code code = root()->gang->usage(w.core, &query, &usage, &m.room, nullptr);
          if (code == THOLE_STALE) return;
          if (code != THOLE_OK) wrong = true;
        }
      });
    EXPECT_EQ(root()->core->close(w.core, nullptr), THOLE_OK);
    for (auto &t : callers) t.join();
    EXPECT_FALSE(wrong);
    w.core = {};
  }
}

}  // namespace
