// Rule A9: in a child of fork, _Fork or clone the parent's handles answer THOLE_FORKED, a core of its own opens and
// works, and nothing waits for a lock that a thread of the parent holds.
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "slots.h"

using namespace host;

namespace {

pid_t by_fork() {
  return fork();
}
pid_t by_underscore_fork() {
  return _Fork();
}
pid_t by_clone() {
  return static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

struct way_to_fork {
  const char *name;
  pid_t (*fork)();
};

class forked : public testing::TestWithParam<way_to_fork> {
 protected:
  void SetUp() override {
    w.open();
    w.make_key();
  }
  // Runs `f` in a child, which answers how many things went wrong, within 20 seconds.
  template <class F>
  int in_child(F f) {
    const pid_t child = GetParam().fork();
    if (child == 0) {
      alarm(20);
      _exit(f());
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
  }
  world w;
};

TEST_P(forked, every_slot_says_so) {
  thole_writer writer{};
  auto save = sized<thole_save>();
  save.attempt = 1;
  save.parts = 1;
  save.step = 7;
  ASSERT_EQ(root()->checkpoint->begin(w.core, &w.store, &save, &writer, nullptr), THOLE_OK);
  const auto slots = every_slot(w);
  const int wrong = in_child([&] {
    int bad = 0;
    for (const auto &one : slots) {
      if (one.pure || one.name == "checkpoint.describe" || one.name == "checkpoint.get" ||
          one.name == "checkpoint.close")
        continue;
      thole_status status = sized<thole_status>();
      const thole_code code = one.call({w.core, writer, {}}, &status);
      if (code != THOLE_FORKED || std::strcmp(status.reason, "Forked") != 0) {
        fprintf(stderr, "%s: %d %s\n", one.name.c_str(), code, status.message);
        ++bad;
      }
    }
    return bad;
  });
  EXPECT_EQ(wrong, 0);
  // The parent's go on.
  const one_tensor tensor;
  EXPECT_EQ(root()->checkpoint->put(writer, &tensor.item, nullptr), THOLE_OK);
  EXPECT_EQ(root()->checkpoint->end(writer, nullptr), THOLE_OK);
}

TEST_P(forked, a_child_opens_a_core_of_its_own) {
  const int wrong = in_child([&] {
    world child;
    child.open();
    auto plan = sized<thole_plan>();
    lent m;
    int bad = root()->gang->plan(child.core, &child.request, 0, &plan, &m.room, nullptr) != THOLE_OK;
    // With it open, the parent's handle is still not ours; its place may be taken by then.
    for (const thole_code code :
         {root()->gang->release(w.core, w.request.gang, nullptr), root()->core->close(w.core, nullptr)})
      bad += code != THOLE_FORKED && code != THOLE_STALE;
    bad += root()->core->close(child.core, nullptr) != THOLE_OK;
    child.core = {};
    return bad;
  });
  EXPECT_EQ(wrong, 0);
  auto usage = sized<thole_usage>();
  const auto query = sized<thole_gang_query>();
  lent m;
  EXPECT_EQ(root()->gang->usage(w.core, &query, &usage, &m.room, nullptr), THOLE_OK);
}

TEST_P(forked, a_grandchild_is_told_too) {
  const int wrong = in_child([&] {
    thole_core mine{};
    if (root()->core->open(nullptr, &mine, nullptr) != THOLE_OK) return 10;
    const pid_t grandchild = GetParam().fork();
    if (grandchild == 0) {
      const bool right =
          root()->core->close(mine, nullptr) == THOLE_FORKED && root()->core->close(w.core, nullptr) == THOLE_FORKED;
      _exit(right ? 0 : 1);
    }
    int status = 0;
    waitpid(grandchild, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 11;
  });
  EXPECT_EQ(wrong, 0);
}

INSTANTIATE_TEST_SUITE_P(ways, forked,
                         testing::Values(way_to_fork{"fork", by_fork},
                                         way_to_fork{"underscore_fork", by_underscore_fork},
                                         way_to_fork{"clone", by_clone}),
                         [](const auto &info) { return info.param.name; });

#if !defined(__SANITIZE_THREAD__)
TEST(fork, under_load_no_child_hangs) {
  world w;
  w.open();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      while (!stop) {
        auto usage = sized<thole_usage>();
        const auto query = sized<thole_gang_query>();
        lent m;
        root()->gang->usage(w.core, &query, &usage, &m.room, nullptr);
      }
    });
  constexpr int children = 200;
  int told = 0;
  for (int i = 0; i < children && told == i; ++i) {
    // malloc may be locked by a thread that the child does not have, when it is not glibc's fork that made it.
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      const thole_code old = root()->core->close(w.core, nullptr);
      thole_core mine{};
      const thole_code opened = root()->core->open(nullptr, &mine, nullptr);
      _exit(old == THOLE_FORKED && opened == THOLE_OK && root()->core->close(mine, nullptr) == THOLE_OK ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    told += WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  stop = true;
  for (auto &t : threads) t.join();
  printf("%d of %d children\n", told, children);
  EXPECT_EQ(told, children);
}
#endif

}  // namespace

namespace {

// How many descriptors of this process lead to a file whose name ends so.
int open_here(const std::string &end) {
  int found = 0;
  for (const auto &entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    found += std::filesystem::read_symlink(entry, gone).string().ends_with(end) ? 1 : 0;
  }
  return found;
}

}  // namespace

// A worker that lives on must not keep the ledger from the host that comes after a dead one.
TEST(fork, a_child_keeps_no_lock_of_the_ledger) {
  const folder place;
  const std::string state = place.path + "/state";
  thole_core_options options = sized<thole_core_options>();
  options.state = str(state);
  thole_core core{};
  ASSERT_EQ(root()->core->open(&options, &core, nullptr), THOLE_OK);
  EXPECT_EQ(open_here(".lock"), 1);
  const pid_t child = ::fork();
  if (child == 0) _exit(open_here(".lock"));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(root()->gang->remove_node(core, THOLE_STR("n"), nullptr), THOLE_OK);
  EXPECT_EQ(root()->core->close(core, nullptr), THOLE_OK);
}
