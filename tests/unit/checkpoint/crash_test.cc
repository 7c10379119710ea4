// Crashes: every operation of a scenario is recorded, and the store is rebuilt as a crash at each point may have left
// it, with unsynced writes lost, kept or torn and unsynced names lost or kept, in any combination. Then the same
// without one sync or rename after the other: each omission must be noticed.
#include "fixture.h"

namespace thole::checkpoint::test {
namespace {

// What had been promised when the log had so many operations.
struct promise {
  std::size_t at;
  uint64_t attempt;  // fenced
  uint64_t step;     // committed
};

struct history_run {
  disk files;
  std::vector<promise> promises;
};

constexpr std::size_t rows = 4;

void promise_now(history_run &h, uint64_t attempt, uint64_t step) {
  const promise last = h.promises.empty() ? promise{0, 0, 0} : h.promises.back();
  h.promises.push_back({h.files.log.size(), std::max(attempt, last.attempt), std::max(step, last.step)});
}

result<> save_step(history_run &h, uint64_t attempt, uint64_t step, uint32_t ranks) {
  // All begin, then all seal: operations of several ranks stand between one another.
  std::vector<std::unique_ptr<writer>> all;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    THOLE_LET(auto w, writer::begin(in_memory(h.files), {attempt, step, rank, ranks, 16}));
    all.push_back(std::move(w));
  }
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    THOLE_TRY(put_rows(*all[rank], {"cut", "float32", {rows, 5}, noise(rows * 20, step)}, rank, ranks, true));
    THOLE_TRY(put_rows(*all[rank], {"whole", "uint8", {33}, noise(33, step + 1)}, rank, ranks, false));
    THOLE_LET(const sealed s, all[rank]->seal());
    if (s.committed) promise_now(h, attempt, step);
  }
  return {};
}

// Two attempts of two ranks: fence, save, save, fence, save, retire.
result<> play(history_run &h) {
  const auto fenced = [&](uint64_t attempt) -> result<> {
    target t = in_memory(h.files);
    THOLE_TRY(fence(t, attempt));
    promise_now(h, attempt, 0);
    return {};
  };
  THOLE_TRY(fenced(1));
  THOLE_TRY(save_step(h, 1, 10, 2));
  THOLE_TRY(save_step(h, 1, 20, 2));
  THOLE_TRY(fenced(2));
  THOLE_TRY(save_step(h, 2, 30, 2));
  target t = in_memory(h.files);
  THOLE_TRY(retire(t, 1));
  return {};
}

// Empty: the state is one that a crash may leave. Else what is wrong with it.
std::string judge(disk &d, const promise &p) {
  auto newest = check_small(in_memory(d), {}, rows);
  // Before the store's own folder is durable, a crash leaves no store.
  if (!newest && newest.error().why != reason::CheckpointNone && newest.error().why != reason::StoreGone)
    return why(newest);
  const uint64_t step = newest ? *newest : 0;
  if (step < p.step) return fmt::format("step {} was reported committed, step {} is the newest", p.step, step);
  target t = in_memory(d);
  if (!d.names.contains("")) return p.attempt > 0 ? "the store is gone" : "";
  auto all = list(t);
  if (!all) return why(all);
  for (const listed &l : *all) {
    if (l.state == status_of::damaged) return "damaged: " + l.why;
    if (l.state != status_of::committed) continue;
    auto good = check_small(in_memory(d), {{}, l.where.step}, rows);
    if (!good) return "listed as committed, but " + why(good);
  }
  if (p.attempt > 1) {
    auto older = writer::begin(in_memory(d), {p.attempt - 1, 99, 0, 1, 16});
    if (older || older.error().why != reason::AttemptFenced) return "a fence that was answered is gone";
  }
  // A rank that the crash spared can begin again what was interrupted: no half-written key stands in its way.
  for (const auto &[attempt, step] : {std::pair<uint64_t, uint64_t>{1, 10}, {1, 20}, {2, 30}}) {
    auto again = writer::begin(in_memory(d), {attempt, step, 0, 2, 16});
    if (!again && again.error().why != reason::PartExists && again.error().why != reason::AttemptFenced &&
        again.error().why != reason::StepPast)
      return "a part cannot be begun again: " + why(again);
  }
  // What comes next works.
  target next = in_memory(d);
  if (auto f = fence(next, 3); !f) return "the next attempt cannot begin: " + why(f);
  return "";
}

struct tally {
  std::size_t states = 0;
  std::size_t bad = 0;
  std::string first;
};

// All subsets of what is not durable where these are few, random ones where they are many.
tally crash_everywhere(const history_run &h, std::size_t samples, uint64_t seed, bool stop_at_first) {
  tally out;
  std::mt19937_64 random(seed);
  promise p{0, 0, 0};
  std::size_t next = 0;
  for (std::size_t cut = 0; cut <= h.files.log.size(); ++cut) {
    while (next < h.promises.size() && h.promises[next].at <= cut) p = h.promises[next++];
    for (std::size_t s = 0; s < samples; ++s) {
      // None, all, and then any.
      const uint64_t bias = s == 0 ? 0 : s == 1 ? 100 : 25 * (1 + random() % 3);
      disk d = after_crash(
          h.files.log, cut, [&](std::size_t) { return random() % 100 < bias; },
          [&](std::size_t, std::size_t size) { return bias == 0 || random() % 2 == 0 ? 0 : random() % (size + 1); });
      const std::string wrong = judge(d, p);
      ++out.states;
      if (wrong.empty()) continue;
      ++out.bad;
      if (out.first.empty()) out.first = fmt::format("cut at {} of {}: {}", cut, h.files.log.size(), wrong);
      if (stop_at_first) return out;
    }
  }
  return out;
}

TEST(Crash, NoStateIsTornOrFalselyCommitted) {
  history_run h;
  ASSERT_OK(play(h));
  const char *longer = std::getenv("THOLE_TEST_LONG");
  const std::size_t samples = (longer != nullptr ? 200'000 : 10'500) / one_in() / h.files.log.size() + 1;
  const tally t = crash_everywhere(h, samples, 1, false);
  EXPECT_EQ(t.bad, 0u) << t.first;
  EXPECT_GE(t.states, 10'000u / one_in());
  std::printf("crash states: %zu of %zu good, over %zu operations (one in %zu looked at)\n", t.states - t.bad, t.states,
              h.files.log.size(), one_in());
}

// Old checkpoints are removed; the machine stops in between. What was to be kept is whole in every state, nothing is
// listed that cannot be read, and the next removal ends what this one has begun.
TEST(Crash, RemovingOldCheckpointsKeepsTheNewest) {
  std::size_t states = 0;
  std::size_t good = 0;
  std::size_t operations = 0;
  for (const uint32_t keep : {1u, 2u}) {
    history_run h;
    for (uint64_t step = 10; step <= 50; step += 10) ASSERT_OK(save_step(h, 1, step, 2));
    const std::size_t begun = h.files.log.size();
    target t = in_memory(h.files);
    auto removed = retire(t, keep);
    ASSERT_OK(removed);
    EXPECT_EQ(*removed, 5 - keep);
    const auto whole = [&](disk &d) -> std::string {
      for (uint64_t step = 50; step > 50 - 10 * keep; step -= 10)
        if (auto read = check_small(in_memory(d), {{}, step}, rows); !read) return why(read);
      if (auto newest = check_small(in_memory(d), {}, rows); !newest || *newest != 50) return "not the newest";
      target again = in_memory(d);
      auto all = list(again);
      if (!all) return why(all);
      for (const listed &l : *all)
        if (l.state == status_of::committed && !check_small(in_memory(d), {{}, l.where.step}, rows))
          return fmt::format("step {} is listed as committed and cannot be read", l.where.step);
      if (auto done = retire(again, keep); !done) return why(done);
      auto left = list(again);
      if (!left || left->size() != keep) return "the next removal does not end it";
      auto newest = check_small(in_memory(d), {}, rows);
      return newest ? "" : why(newest);
    };
    std::mt19937_64 random(keep);
    for (std::size_t cut = begun; cut <= h.files.log.size(); ++cut)
      for (uint64_t sample = 0; sample < 8; ++sample, ++states) {
        const uint64_t bias = sample == 0 ? 0 : sample == 1 ? 100 : 15 * sample;
        disk d = after_crash(
            h.files.log, cut, [&](std::size_t) { return random() % 100 < bias; },
            [](std::size_t, std::size_t) { return std::size_t{0}; });
        const std::string wrong = whole(d);
        EXPECT_EQ(wrong, "") << "keep " << keep << ", cut at " << cut;
        good += wrong.empty() ? 1 : 0;
      }
    operations += h.files.log.size() - begun;
  }
  EXPECT_GT(operations, 20u);
  std::printf("crash states of removals: %zu of %zu good, over %zu operations\n", good, states, operations);
}

// Which file or folder an operation concerns, without the random part of names.
std::string class_of(const std::string &path) {
  if (path == "..") return "the folder that holds the store";
  if (path.empty()) return "the store's folder";
  const std::string name = path.substr(path.rfind('/') == path.npos ? 0 : path.rfind('/') + 1);
  if (name.starts_with("part-")) return "a part";
  if (name.starts_with("MANIFEST")) return "the manifest";
  if (name.starts_with("fence-")) return "a fence record";
  if (name.starts_with("accept-")) return "an accept record";
  if (name.starts_with("KEYSLOTS")) return path.find("/step-") != path.npos ? "a checkpoint's key" : "the run's key";
  if (name.starts_with("step-")) return "a step's folder";
  return path.find("/step-") != path.npos ? "a checkpoint's folder" : "the run's folder";
}

// Folder syncs differ by what was done in the folder before.
class places {
 public:
  std::string operator()(const std::string &op, const std::string &path) {
    if (op == "make" || op == "create" || op == "publish" || op == "remove")
      last_[parent_of(path)] = (op == "create" ? "publish " : op + " ") + class_of(path);
    if (op == "sync") return "sync of " + class_of(path);
    if (op == "publish" || op == "create") return "rename of " + class_of(path);
    if (op == "sync-folder") return "sync of " + class_of(path) + " after " + last_[path];
    return "";
  }

 private:
  std::map<std::string, std::string> last_;
};

TEST(Crash, LeavingOutAnySyncOrRenameIsNoticed) {
  std::set<std::string> points;
  {
    history_run h;
    places where;
    h.files.decide = [&](const std::string &op, const std::string &path) {
      if (const std::string point = where(op, path); !point.empty()) points.insert(point);
      return outcome::normal;
    };
    ASSERT_OK(play(h));
  }
  std::size_t killed = 0;
  for (const std::string &point : points) {
    history_run h;
    places where;
    h.files.decide = [&](const std::string &op, const std::string &path) {
      return where(op, path) == point ? outcome::drop : outcome::normal;
    };
    auto played = play(h);
    std::string noticed = played ? "" : why(played);
    for (uint64_t seed = 1; noticed.empty() && seed <= 20; ++seed) noticed = crash_everywhere(h, 12, seed, true).first;
    std::printf("mutant: without the %s: %s\n", point.c_str(), noticed.empty() ? "SURVIVES" : "killed");
    EXPECT_FALSE(noticed.empty()) << "nobody notices that the " << point << " is left out";
    if (!noticed.empty()) ++killed;
  }
  std::printf("mutants: %zu of %zu killed\n", killed, points.size());
}

}  // namespace
}  // namespace thole::checkpoint::test
