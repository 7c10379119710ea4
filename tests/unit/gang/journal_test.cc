// The journal: replay is equal, an unfinished end is cut off wherever it ends, any other damage is told, and processes
// that race on one folder, or are killed in the middle, never hold a device twice.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "gang/engine.h"

namespace {

using namespace thole;
using model::gang_request;

class folder {
 public:
  folder() {
    std::string name = (std::filesystem::temp_directory_path() / "thole-journal-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~folder() { std::filesystem::remove_all(path_); }
  const std::string &path() const { return path_; }
  std::string journal() const { return path_ + "/gang.journal"; }

 private:
  std::string path_;
};

std::vector<model::node> eight_gpu_nodes(int count) {
  std::vector<model::node> out;
  for (int i = 0; i < count; ++i) {
    model::node n{"node-" + std::to_string(i), {"r" + std::to_string(i / 2)}, 64000, 64000, 0, {}};
    for (int g = 0; g < 8; ++g)
      n.devices.push_back(
          {"SIM-" + std::to_string(i) + "-" + std::to_string(g), "M", 80000, 500, THOLE_GPU_SIMULATED, 0, {}});
    out.push_back(n);
  }
  return out;
}

gang_request gang_of(uint64_t id, uint32_t members, model::device_kind kind = model::device_kind::whole) {
  gang_request q;
  q.gang = {1, id};
  model::role r;
  r.name = "worker";
  r.members = members;
  r.kind = kind;
  r.devices = 1;
  if (kind == model::device_kind::vgpu) r.vgpu_memory_mib = 10000, r.share_milli = 100;
  r.cpu_milli = 1000;
  q.roles.push_back(r);
  EXPECT_TRUE(model::check(q));
  return q;
}

// Plans and reserves until it holds or does not fit; what other processes take in between is planned around.
bool take(gang::engine &e, const gang_request &q, int64_t now = 0, int64_t expires = 0) {
  for (;;) {
    const auto plan = e.plan(q, now);
    if (!plan) return false;
    const auto done = e.reserve(q, *plan, {now, expires, false});
    if (done) return true;
    if (done.error().why != reason::PlanStale) return false;
  }
}

std::unique_ptr<gang::engine> open(const folder &f, uint64_t compact = gang::engine::compact_above) {
  auto e = gang::engine::open(f.path(), log_sink{}, compact);
  EXPECT_TRUE(e) << (e ? "" : e.error().text());
  return e ? std::move(*e) : nullptr;
}

uint64_t digest(gang::engine &e) {
  return e.usage("", 0)->digest;
}

// A history with every kind of record.
void live_a_life(gang::engine &e, int gangs = 6) {
  ASSERT_TRUE(e.set_levels({"rack"}));
  ASSERT_TRUE(e.set_nodes(eight_gpu_nodes(4)));
  for (int i = 0; i < gangs; ++i) {
    const auto id = static_cast<uint64_t>(i);
    const auto kind = i % 2 == 0 ? model::device_kind::whole : model::device_kind::vgpu;
    ASSERT_TRUE(take(e, gang_of(id, 3, kind), i, i == 4 ? 5 : 0));
    ASSERT_TRUE(i % 3 != 0 || e.confirm({1, id}, i));
    ASSERT_TRUE(i % 3 != 1 || e.release({1, id}));
  }
  auto nodes = eight_gpu_nodes(1);
  nodes[0].devices.pop_back();  // one that may be held
  nodes[0].flags = THOLE_NODE_CORDONED;
  ASSERT_TRUE(e.set_nodes(nodes));
  ASSERT_TRUE(e.remove_node("node-1"));
  ASSERT_TRUE(e.remove_node("node-3"));
}

std::string slurp(const std::string &path) {
  return *read_file(path, 64u << 20);
}
void spill(const std::string &path, const std::string &bytes) {
  auto fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
  ASSERT_TRUE(fd);
  ASSERT_TRUE(write_all(fd->get(), bytes.data(), bytes.size(), path));
}

TEST(Journal, ReplayMakesTheSameLedger) {
  const folder f;
  uint64_t before = 0, revision = 0;
  {
    auto e = open(f);
    live_a_life(*e);
    before = digest(*e);
    revision = e->usage("", 0)->revision;
  }
  auto e = open(f);
  EXPECT_EQ(digest(*e), before);
  EXPECT_EQ(e->usage("", 0)->revision, revision);
  // The same life in memory only makes the same ledger.
  auto m = gang::engine::open("", log_sink{});
  live_a_life(**m);
  EXPECT_EQ(digest(**m), before);
}

TEST(Journal, CompactionKeepsTheLedgerAndOthersNotice) {
  const folder f;
  auto a = open(f, 2000), b = open(f, 2000);
  ASSERT_TRUE(a->set_levels({"rack"}) && a->set_nodes(eight_gpu_nodes(1)));
  uint64_t largest = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    gang::engine &e = i % 2 == 0 ? *a : *b;
    ASSERT_TRUE(take(e, gang_of(i, 4)));
    ASSERT_EQ(digest(*a), digest(*b));
    ASSERT_TRUE(e.release({1, i}));
    largest = std::max(largest, std::filesystem::file_size(f.journal()));
  }
  EXPECT_LT(largest, 20000u) << "400 gangs make far more";
  EXPECT_EQ(digest(*open(f)), digest(*a));
}

TEST(Journal, AnUnfinishedEndIsCutOffAtEveryByte) {
  const folder f;
  uint64_t before = 0;
  std::string whole;
  std::size_t keep = 0;
  {
    auto e = open(f);
    live_a_life(*e, 3);
    before = digest(*e);
    keep = slurp(f.journal()).size();
    ASSERT_TRUE(take(*e, gang_of(99, 2)));
    whole = slurp(f.journal());
  }
  int cuts = 0;
  for (std::size_t at = keep; at < whole.size(); ++at, ++cuts) {
    for (const bool zeros : {false, true}) {
      std::string bytes = whole.substr(0, at);
      // After a power cut the length may be there and the bytes not.
      if (zeros && at == keep) bytes.resize(whole.size(), '\0');
      spill(f.journal(), bytes);
      auto e = open(f);
      ASSERT_TRUE(e) << at;
      ASSERT_EQ(digest(*e), before) << at;
      ASSERT_TRUE(take(*e, gang_of(99, 2))) << at;
      ASSERT_EQ(slurp(f.journal()), whole) << at;
    }
  }
  std::printf("cut at %d of %zu bytes of the last record\n", cuts, whole.size() - keep);
}

TEST(Journal, AFlippedByteIsTold) {
  const folder f;
  std::string whole;
  std::size_t last = 0;
  uint64_t before = 0;
  {
    auto e = open(f);
    live_a_life(*e, 2);
    last = slurp(f.journal()).size();
    before = digest(*e);
    ASSERT_TRUE(take(*e, gang_of(99, 1)));
    whole = slurp(f.journal());
  }
  std::size_t told = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x20);
    spill(f.journal(), bytes);
    const auto e = gang::engine::open(f.path(), log_sink{});
    if (at < last + 8) {
      ASSERT_FALSE(e) << "byte " << at;
      ASSERT_TRUE(e.error().why == reason::JournalDamaged ||
                  (at >= 8 && at < 12 && e.error().why == reason::StateNewer))
          << "byte " << at << ": " << e.error().text();
    } else {
      // Of the last record only: it cannot be told from one that was being written.
      ASSERT_TRUE(e) << "byte " << at;
      ASSERT_EQ(digest(**e), before);
    }
    ++told;
  }
  std::printf("%zu of %zu flipped bytes noticed\n", told, whole.size());
}

TEST(Journal, RefusesWhatIsNotPrivateOrNewer) {
  const folder f;
  ASSERT_EQ(::chmod(f.path().c_str(), 0777), 0);
  auto e = gang::engine::open(f.path(), log_sink{});
  ASSERT_FALSE(e);
  EXPECT_EQ(e.error().why, reason::StateNotPrivate);
  ASSERT_EQ(::chmod(f.path().c_str(), 0700), 0);
  open(f);
  std::string bytes = slurp(f.journal());
  bytes[8] = 2;
  spill(f.journal(), bytes);
  e = gang::engine::open(f.path(), log_sink{});
  ASSERT_FALSE(e);
  EXPECT_EQ(e.error().why, reason::StateNewer);
}

// Fields 15 (of the record) and 14 (inside a message) are not known to this version.
TEST(Journal, AFieldThatIsNotKnownIsRefused) {
  gang::names words;
  const std::string record = gang::encode(gang::levels_named{{"rack"}}, 1, words);
  const auto answer = [](const std::string &bytes) {
    gang::ledger l;
    const auto done = gang::replay(l, bytes);
    return done ? reason{} : done.error().why;
  };
  EXPECT_EQ(answer(record), reason{});
  EXPECT_EQ(answer(record + "\x78\x01"), reason::StateNewer) << "in the record";
  std::string inside = record;
  const std::size_t length = inside.find('\x12') + 1;  // of field 2
  inside[length] = static_cast<char>(inside[length] + 2);
  EXPECT_EQ(answer(inside + "\x70\x01"), reason::StateNewer) << "in the change";
  gang::ledger l;
  ASSERT_TRUE(gang::replay(l, record));
  const std::string snapshot = gang::encode_snapshot(l);
  EXPECT_EQ(answer(snapshot), reason{});
  EXPECT_EQ(answer(snapshot + "\x78\x01"), reason::StateNewer) << "in a snapshot";
}

// Who holds what, added up again from what gangs() says.
void expect_nothing_twice(gang::engine &e) {
  std::map<std::string, int> held;
  const auto all = e.gangs({}, "", 0);
  ASSERT_TRUE(all);
  for (const auto &p : *all)
    for (const auto &g : p.grants) EXPECT_EQ(++held[std::string(g.uuid)], 1) << g.uuid << " is held twice";
  const auto usage = e.usage("", 0);
  for (const auto &d : usage->devices) EXPECT_EQ(d.holders, held.contains(std::string(d.uuid)) ? 1u : 0u) << d.uuid;
}

// A process of its own: takes and gives back gangs until it has done `rounds`, or is killed.
[[noreturn]] void compete(const folder &f, uint64_t who, uint64_t rounds) {
  auto e = gang::engine::open(f.path(), log_sink{}, 20000);
  if (!e) ::_exit(2);
  for (uint64_t i = 0; i < rounds; ++i) {
    const uint64_t id = who << 32 | i;
    if (!take(**e, gang_of(id, 1 + static_cast<uint32_t>(i % 5)))) {
      if (i > 0 && !(*e)->release({1, id - 1})) ::_exit(3);
      continue;
    }
    if (!(*e)->confirm({1, id}, 0)) ::_exit(4);
    if (i % 3 != 0 && !(*e)->release({1, id})) ::_exit(5);
  }
  ::_exit(0);
}

pid_t start(const folder &f, uint64_t who, uint64_t rounds) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) compete(f, who, rounds);
  return child;
}

TEST(Journal, TwoProcessesNeverHoldADeviceTwice) {
  const folder f;
  ASSERT_TRUE(open(f)->set_levels({"rack"}) && open(f)->set_nodes(eight_gpu_nodes(2)));
  const pid_t a = start(f, 1, 60), b = start(f, 2, 60);
  for (const pid_t p : {a, b}) {
    int status = 0;
    ASSERT_EQ(::waitpid(p, &status, 0), p);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  auto e = open(f);
  expect_nothing_twice(*e);
  EXPECT_GT(e->gangs({}, "", 0)->size(), 0u);
}

TEST(Journal, KilledInTheMiddleAgainAndAgain) {
  const folder f;
  ASSERT_TRUE(open(f)->set_levels({"rack"}) && open(f)->set_nodes(eight_gpu_nodes(2)));
  constexpr uint64_t kills = 40;
  uint64_t survived = 0;
  for (uint64_t k = 1; k <= kills; ++k) {
    const pid_t child = start(f, k, 1000000);
    const uint64_t before = open(f)->usage("", 0)->revision;
    // Lets it come to 1 + k % 7 more changes, then kills it wherever it is.
    auto watch = open(f);
    while (watch->usage("", 0)->revision < before + 1 + k % 7)
      if (::waitpid(child, nullptr, WNOHANG) == child) FAIL() << "the child has ended by itself";
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    auto e = open(f);
    ASSERT_TRUE(e);
    expect_nothing_twice(*e);
    ASSERT_EQ(digest(*e), digest(*watch));
    const auto left = e->gangs({}, "", 0);
    for (const auto &p : *left) ASSERT_TRUE(e->release(p.gang));
    ++survived;
  }
  std::printf("%llu of %llu kills: the ledger is whole\n", static_cast<unsigned long long>(survived),
              static_cast<unsigned long long>(kills));
}

}  // namespace
