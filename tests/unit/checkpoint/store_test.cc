// Stores that fill up, vanish or cannot be written; ranks that race, stop and come back; helpers that misbehave.
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "checkpoint/key_program.h"
#include "fixture.h"

namespace thole::checkpoint::test {
namespace {

TEST(Store, RacingCommittersMakeOneCheckpoint) {
  const scratch folder;
  int rounds = 0;
  int both = 0;
  for (uint64_t step = 1; step <= 60; ++step, ++rounds) {
    std::unique_ptr<writer> w[2];
    for (uint32_t rank = 0; rank < 2; ++rank) {
      auto begun = writer::begin(in_folder(folder.path()), {1, step, rank, 2, 16});
      ASSERT_OK(begun);
      ASSERT_OK(put_rows(**begun, {"cut", "float32", {12, 5}, noise(240, step)}, rank, 2, true));
      ASSERT_OK(put_rows(**begun, {"whole", "uint8", {33}, noise(33, step + 1)}, rank, 2, false));
      w[rank] = std::move(*begun);
    }
    result<sealed> done[2] = {fail(reason::Defect, ""), fail(reason::Defect, "")};
    std::thread other([&] { done[1] = w[1]->seal(); });
    done[0] = w[0]->seal();
    other.join();
    ASSERT_OK(done[0]);
    ASSERT_OK(done[1]);
    ASSERT_TRUE(done[0]->committed || done[1]->committed);
    both += done[0]->committed && done[1]->committed ? 1 : 0;
    auto read = check_small(in_folder(folder.path()));
    ASSERT_OK(read);
    ASSERT_EQ(*read, step);
  }
  std::printf("races of two committers: %d of 60 good, in %d both committed\n", rounds, both);
}

// A full store at every write, sync and rename of a save: a reason, and the newest checkpoint is untouched.
TEST(Store, FullOrReadOnlyAtAnyOperation) {
  for (const outcome bad : {outcome::no_space, outcome::read_only}) {
    std::size_t operations = 0;
    {
      disk d;
      ASSERT_OK(save_small(in_memory(d), 1, 1, 0, 1));
      d.decide = [&](auto &, auto &) { return ++operations, outcome::normal; };
      ASSERT_OK(save_small(in_memory(d), 1, 2, 0, 1));
    }
    std::size_t answered = 0;
    for (std::size_t k = 1; k <= operations; ++k) {
      disk d;
      ASSERT_OK(save_small(in_memory(d), 1, 1, 0, 1));
      std::size_t n = 0;
      d.decide = [&](auto &, auto &) { return ++n >= k ? bad : outcome::normal; };
      auto failed_save = save_small(in_memory(d), 1, 2, 0, 1);
      d.decide = [](auto &, auto &) { return outcome::normal; };
      ASSERT_FALSE(failed_save);
      EXPECT_EQ(name_of(failed_save.error().why), bad == outcome::no_space ? "StoreFull" : "StoreReadOnly");
      auto read = check_small(in_memory(d));
      ASSERT_OK(read);
      // The very last operation makes the commit durable: then either is true.
      EXPECT_TRUE(*read == 1 || k == operations);
      for (const auto &[path, node] : d.names) EXPECT_FALSE(is_temporary(path)) << path;
      ++answered;
    }
    std::printf("%s at operation k: %zu of %zu answered, the older checkpoint stays\n",
                bad == outcome::no_space ? "no space" : "read-only", answered, operations);
  }
}

TEST(Store, ASmallFileSystemThatIsFullOrReadOnly) {
  const scratch folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=2m") != 0)
    GTEST_SKIP() << "full tmpfs: mounting needs root";
  const auto all = [&] {
    EXPECT_OK(save_small(in_folder(folder.path()), 1, 1, 0, 1));
    EXPECT_WHY(save_small(in_folder(folder.path()), 1, 2, 0, 1, 200'000), StoreFull);
    auto read = check_small(in_folder(folder.path()));
    ASSERT_OK(read);
    EXPECT_EQ(*read, 1u);
    ASSERT_EQ(mount("tmpfs", folder.path().c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=2m"), 0);
    EXPECT_WHY(save_small(in_folder(folder.path()), 1, 3, 0, 1), StoreReadOnly);
    EXPECT_OK(check_small(in_folder(folder.path())));
  };
  all();
  umount2(folder.path().c_str(), MNT_DETACH);
}

TEST(Store, VanishesUnderAWriter) {
  const scratch folder;
  auto w = writer::begin(in_folder(folder / "store"), {1, 1, 0, 1, 16});
  ASSERT_OK(w);
  ASSERT_OK(put_value(**w, "v", item_kind::text, "x"));
  std::filesystem::remove_all(folder / "store");
  EXPECT_WHY((*w)->seal(), StoreGone);
  EXPECT_WHY(put_value(**w, "w", item_kind::text, "x"), WriterBroken);
}

TEST(Fence, AStoppedAndReplacedRankCannotPublish) {
  disk d;
  const auto fenced = [&](uint64_t attempt) {
    target t = in_memory(d);
    return fence(t, attempt);
  };
  ASSERT_OK(fenced(1));
  ASSERT_OK(save_small(in_memory(d), 1, 10, 0, 1));
  auto stopped = writer::begin(in_memory(d), {1, 20, 0, 1, 16});
  ASSERT_OK(stopped);
  auto second = fenced(2);
  ASSERT_OK(second);
  EXPECT_EQ(second->step, 10u);
  EXPECT_EQ(fenced(2)->checkpoint, second->checkpoint);  // the same attempt again
  EXPECT_WHY(fenced(1), AttemptFenced);
  EXPECT_WHY((*stopped)->seal(), AttemptFenced);
  EXPECT_WHY(writer::begin(in_memory(d), {1, 30, 0, 1, 16}), AttemptFenced);
  EXPECT_EQ(check_small(in_memory(d)).value_or(0), 10u);
  ASSERT_OK(save_small(in_memory(d), 2, 11, 0, 1));
  EXPECT_EQ(check_small(in_memory(d)).value_or(0), 11u);
  EXPECT_EQ(check_small(in_memory(d), {{}, 10}).value_or(0), 10u);
}

// The fence comes between any two operations of the old attempt's seal: it is accepted, or its writer is told.
TEST(Fence, AtAnyOperationOfASealOneOfTheTwoSeesTheOther) {
  std::size_t operations = 0;
  std::size_t accepted = 0;
  std::size_t ignored = 0;
  for (std::size_t k = 1;; ++k) {
    disk d;
    ASSERT_OK(save_small(in_memory(d), 1, 10, 0, 1));
    std::size_t n = 0;
    uint64_t went_on_from = 0;
    bool inside = false;
    d.decide = [&](auto &, auto &) {
      if (inside || ++n != k) return outcome::normal;
      inside = true;
      target t = in_memory(d);
      auto f = fence(t, 2);
      inside = false;
      EXPECT_OK(f);
      if (f) went_on_from = f->step;
      return outcome::normal;
    };
    auto old = save_small(in_memory(d), 1, 20, 0, 1);
    d.decide = [](auto &, auto &) { return outcome::normal; };
    operations = k;
    if (n < k) break;
    const bool was_accepted = went_on_from == 20;
    if (old) {
      EXPECT_TRUE(was_accepted) << "operation " << k;
    } else {
      EXPECT_EQ(name_of(old.error().why), "AttemptFenced") << old.error().text();
    }
    // What the fence has answered is what every reader finds, before and after.
    EXPECT_EQ(check_small(in_memory(d)).value_or(0), went_on_from);
    ++(was_accepted ? accepted : ignored);
  }
  std::printf("a fence at each of %zu operations of a save: %zu times accepted, %zu times ignored\n", operations - 1,
              accepted, ignored);
  EXPECT_GT(accepted, 0u);
  EXPECT_GT(ignored, 0u);
}

// Whoever seals last in a rank, a command and a filesystem may all retire at once: what another one has removed is
// removed.
TEST(Retire, TwoAtOnceRemoveTheSameCheckpoints) {
  constexpr int rounds = 20;
  int in_order = 0;
  for (int round = 0; round < rounds; ++round) {
    const scratch folder;
    auto t = in_folder(folder.path());
    ASSERT_OK(fence(t, 1));
    for (uint64_t step = 1; step <= 6; ++step) ASSERT_OK(save_small(in_folder(folder.path()), 1, step, 0, 1));
    std::vector<std::string> said(2);
    std::vector<std::thread> both;
    for (std::string &what : said)
      both.emplace_back([&what, &folder] {
        auto mine = in_folder(folder.path());
        what = why(retire(mine, 1));
      });
    for (std::thread &one : both) one.join();
    EXPECT_EQ(said, (std::vector<std::string>{"success", "success"}));
    const auto left = list(t);
    ASSERT_OK(left);
    in_order += left->size() == 1 && (*left)[0].where.step == 6;
  }
  EXPECT_EQ(in_order, rounds);
  std::printf("two that retire at once: %d of %d times only the newest was left\n", in_order, rounds);
}

TEST(Fence, ALateManifestOfAnOlderAttemptIsListedAsFenced) {
  disk d;
  ASSERT_OK(save_small(in_memory(d), 1, 10, 0, 1));
  disk before = d;
  ASSERT_OK(save_small(in_memory(d), 1, 20, 0, 1));
  // Attempt 2 began on a store that had not seen step 20 yet; then its files arrive.
  before.decide = d.decide;
  {
    target t = in_memory(before);
    ASSERT_OK(fence(t, 2));
  }
  for (const auto &[path, node] : d.names)
    if (!before.names.contains(path)) {
      const uint64_t copy = before.next++;
      before.nodes[copy] = d.nodes[node];
      before.names[path] = copy;
    }
  EXPECT_EQ(check_small(in_memory(before)).value_or(0), 10u);
  EXPECT_WHY(check_small(in_memory(before), {{}, 20}), CheckpointNone);
  target t = in_memory(before);
  auto all = list(t);
  ASSERT_OK(all);
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].state, status_of::fenced);
  EXPECT_EQ((*all)[1].state, status_of::committed);
  EXPECT_EQ(retire(t, 1).value_or(0), 1u);
  EXPECT_EQ(check_small(in_memory(before)).value_or(0), 10u);
}

key_source helper(const scratch &folder, const std::string &name, const std::string &script) {
  const std::string path = folder / name;
  std::ofstream(path) << "#!/usr/bin/env python3\n" << script;
  EXPECT_EQ(chmod(path.c_str(), 0700), 0);
  return {true, path, {}};
}

constexpr const char *honest = R"(
import base64, json, os, sys
r = json.loads(sys.stdin.readline())
d = bytes(b ^ 0x55 for b in base64.b64decode(r["data"]))
assert r["op"] in ("wrap", "unwrap") and r["key"].startswith("thole run ")
assert sorted(os.listdir("/proc/self/fd"))[:3] == ["0", "1", "2"] and len(os.listdir("/proc/self/fd")) <= 4
print(json.dumps({"data": base64.b64encode(d).decode()}), flush=True)
)";

TEST(KeyHelper, WrapsUnwrapsAndFailsWithAReason) {
  const scratch folder;
  const int before = static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
  const auto saved_with = [](disk &d, key_source k) {
    target t = in_memory(d);
    t.key = std::move(k);
    return save_small(std::move(t), 1, 1, 0, 1);
  };
  disk d;
  ASSERT_OK(saved_with(d, helper(folder, "honest", honest)));
  target t = in_memory(d);
  t.key = key_source{true, folder / "honest", {}};
  EXPECT_OK(check_small(std::move(t)));
  EXPECT_WHY(check_small(in_memory(d)), KeyWrong);  // a key file, where a helper had wrapped
  int failures = 0;
  for (const auto &[name, script] : std::vector<std::pair<std::string, std::string>>{
           {"early", "import sys; sys.exit(3)"},
           {"deaf", "import os; os.close(0); print('{}', flush=True)"},
           {"refuses", "print('{\"error\":\"the vault is sealed\"}', flush=True)"},
           {"not-json", "print('hello', flush=True)"},
           {"not-base64", "print('{\"data\":\"***\"}', flush=True)"},
           {"long", "print('x' * 100000, flush=True)"},
           {"binary", "import os; os.write(1, bytes(range(255, -1, -1)) * 8 + bytes([10]))"},
           {"two-answers", "print('{\"data\":\"AAAA\",\"error\":\"no\"}', flush=True)"},
           {"killed", "import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)"},
           {"cut", "import os; os.write(1, b'{\"data\":\"AAA')"},
           {"endless", "import os\nwhile True: os.write(1, b'x' * 65536)"},
           {"liar", "import base64; print('{\"data\":\"%s\"}' % base64.b64encode(b'0'*32).decode(), flush=True)"}}) {
    disk empty;
    EXPECT_WHY(saved_with(empty, helper(folder, name, script)), KeyHelperFailed);
    ++failures;
  }
  disk empty;
  EXPECT_WHY(saved_with(empty, key_source{true, folder / "none", {}}), KeyHelperFailed);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}), before);
  std::printf("key helpers: 1 honest, %d of 12 dishonest ones refused\n", failures);
}

// The call itself waits for the limit; the program is gone when it comes back.
TEST(KeyHelper, IsEndedAfterTenSeconds) {
  const scratch folder;
  const std::pair<std::string, std::string> silent[] = {
      {"reads", "sys.stdin.readline(); signal.pause()"},
      {"does-not-read", "signal.pause()"},
      {"half", "os.write(1, b'{'); signal.pause()"},
      {"will-not-end", "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"},
      {"closes", "sys.stdin.readline(); os.close(0); signal.pause()"}};
  std::vector<std::thread> threads;
  std::atomic<int> ended = 0;
  for (const auto &[name, script] : silent) {
    const key_source k = helper(folder, name,
                                "import os, signal, sys\nopen('" + folder.path() + "/" + name +
                                    ".pid', 'w').write(str(os.getpid()))\n" + script + "\n");
    threads.emplace_back([&, name, k] {
      disk d;
      target t = in_memory(d);
      t.key = k;
      const auto from = std::chrono::steady_clock::now();
      auto r = save_small(std::move(t), 1, 1, 0, 1);
      const auto took = std::chrono::steady_clock::now() - from;
      pid_t pid = 0;
      std::ifstream(folder / name + ".pid") >> pid;
      const bool gone = pid > 0 && kill(pid, 0) == -1 && errno == ESRCH;
      const bool good = !r && r.error().why == reason::KeyHelperFailed && took >= std::chrono::seconds(10) &&
                        took < std::chrono::seconds(60) && gone;
      EXPECT_TRUE(good) << name << ": " << why(r) << ", pid " << pid;
      if (good) ++ended;
    });
  }
  for (std::thread &t : threads) t.join();
  std::printf("key helpers that hang: %d of %zu ended at the limit\n", ended.load(), std::size(silent));
}

}  // namespace
}  // namespace thole::checkpoint::test
