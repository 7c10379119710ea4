#include "capi/handle.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

namespace thole {
namespace {

struct thing {
  std::atomic<int> *alive;
  explicit thing(std::atomic<int> *a) : alive(a) { ++*alive; }
  ~thing() { --*alive; }
};
using table = handle_table<thing, 7, 8>;

class Handle : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(fork::arm()); }
  uint64_t open() { return *handles_->open(std::make_unique<thing>(&alive_)); }
  reason why(uint64_t v) {
    reason r{};
    auto pin = handles_->enter(v, &r);
    EXPECT_FALSE(table::entered(pin));
    return r;
  }
  bool valid(uint64_t v) {
    reason r{};
    return table::entered(handles_->enter(v, &r));
  }
  std::unique_ptr<table> handles_ = std::make_unique<table>();
  std::atomic<int> alive_{0};
};

TEST_F(Handle, OpensEntersAndCloses) {
  const uint64_t v = open();
  EXPECT_TRUE(valid(v));
  EXPECT_TRUE(handles_->close(v));
  EXPECT_EQ(alive_, 0);
}

TEST_F(Handle, AClosedOneIsStaleAlsoAfterItsSlotIsUsedAgain) {
  const uint64_t first = open();
  ASSERT_TRUE(handles_->close(first));
  EXPECT_EQ(why(first), reason::HandleStale);
  const uint64_t second = open();
  EXPECT_NE(first, second);
  EXPECT_EQ(why(first), reason::HandleStale);
  EXPECT_FALSE(handles_->close(first));
  EXPECT_TRUE(valid(second));
  EXPECT_TRUE(handles_->close(second));
}

// Every single-bit change of a handle is told.
TEST_F(Handle, AForeignOneIsStale) {
  const uint64_t v = open();
  int told = 0;
  for (int bit = 0; bit < 64; ++bit) told += why(v ^ uint64_t{1} << bit) == reason::HandleStale;
  std::printf("bits: %d of 64\n", told);
  EXPECT_EQ(told, 64);
  EXPECT_EQ(why(0), reason::HandleStale);
  EXPECT_EQ(why(UINT64_MAX), reason::HandleStale);
  EXPECT_TRUE(handles_->close(v));
}

TEST_F(Handle, ItsBoundIsToldAndSlotsComeBack) {
  std::vector<uint64_t> all;
  for (int i = 0; i < 8; ++i) all.push_back(open());
  const auto more = handles_->open(std::make_unique<thing>(&alive_));
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().why, reason::HandlesOut);
  EXPECT_TRUE(handles_->close(all[3]));
  all[3] = open();
  for (const uint64_t v : all) EXPECT_TRUE(handles_->close(v));
  EXPECT_EQ(alive_, 0);
}

TEST_F(Handle, CloseWaitsForTheCallsThatAreIn) {
  const uint64_t v = open();
  std::atomic<bool> inside{false};
  std::atomic<bool> leave{false};
  std::thread caller([&] {
    reason r{};
    auto pin = handles_->enter(v, &r);
    inside = true;
    inside.notify_all();
    leave.wait(false);
    EXPECT_EQ(alive_, 1);
  });
  inside.wait(false);
  std::thread closer([&] { EXPECT_TRUE(handles_->close(v)); });
  while (valid(v)) std::this_thread::yield();  // until close has begun
  EXPECT_EQ(alive_, 1);
  leave = true;
  leave.notify_all();
  caller.join();
  closer.join();
  EXPECT_EQ(alive_, 0);
}

TEST_F(Handle, ManyThreadsAndOneClose) {
  for (int round = 0; round < 50; ++round) {
    const uint64_t v = open();
    std::atomic<int> closed{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) (void)valid(v);
        if (t % 2 == 0 && handles_->close(v)) ++closed;
      });
    for (auto &t : threads) t.join();
    EXPECT_EQ(closed, 1);
    EXPECT_EQ(alive_, 0);
  }
}

TEST_F(Handle, ManyThreadsOpenDifferentSlots) {
  for (int round = 0; round < 200; ++round) {
    uint64_t mine[8] = {};
    std::vector<std::thread> threads;
    for (uint64_t &v : mine) threads.emplace_back([&] { v = open(); });
    for (auto &t : threads) t.join();
    EXPECT_EQ(alive_, 8);
    for (const uint64_t v : mine) EXPECT_TRUE(handles_->close(v));
  }
}

TEST_F(Handle, AForkedChildIsToldAndMayOpenItsOwn) {
  const uint64_t v = open();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    reason r{};
    if (table::entered(handles_->enter(v, &r)) || r != reason::Forked) _exit(1);
    if (!fork::arm()) _exit(2);
    if (table::entered(handles_->enter(v, &r)) || r != reason::Forked) _exit(3);
    auto own = handles_->open(std::make_unique<thing>(&alive_));
    if (!own || !table::entered(handles_->enter(*own, &r))) _exit(4);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "child exit " << WEXITSTATUS(status);
  EXPECT_TRUE(handles_->close(v));
}

}  // namespace
}  // namespace thole
