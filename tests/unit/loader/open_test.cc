// From a folder to running code: what must be refused is refused before its constructor runs; what is mapped are the
// bytes that were read.
#include "loader/open.h"

#include <gtest/gtest.h>
#include <thole/plugin.h>
#include <unistd.h>

#include <cstring>

#include "fixture.h"
#include "loader/elf.h"
#include "loader/plugins.h"

namespace thole::loader {
namespace {

std::string manifest_of(const std::string &digest, const std::string &library = "specimen.so") {
  return "apiVersion: thole.dev/v1alpha1\nkind: Plugin\nid: org.example.specimen\nprovides: device\nversion: "
         "\"1.0.0\"\nabi: \"" +
         std::to_string(THOLE_ABI_MAJOR) + "." + std::to_string(THOLE_ABI_MINOR) + "\"\nlibrary: " + library +
         "\nmachine: " + this_machine() + "\nsha256: \"" + digest + "\"\n";
}

// The bytes of a specimen that nobody has mapped before: a number behind its end changes the digest and nothing else.
std::string fresh(const std::string &name) {
  static uint64_t number = 0;
  std::string bytes = specimen(name);
  ++number;
  bytes.append(reinterpret_cast<const char *>(&number), sizeof number);
  return bytes;
}

// What the loader says of the one plugin of a folder; "loaded" if it runs.
std::string outcome(const folder &f) {
  plugins all{log_sink{}};
  const auto done = all.load(f.path);
  if (!done) return std::string(name_of(done.error().why));
  const auto seen = all.list();
  if (seen.size() != 1) return std::to_string(seen.size()) + " plugins";
  return seen[0].reason.empty() ? "loaded" : seen[0].reason;
}

class marked : public testing::Test {
 protected:
  marked() { ::setenv("THOLE_SPECIMEN_MARK", mark.c_str(), 1); }
  ~marked() override { ::unsetenv("THOLE_SPECIMEN_MARK"); }
  // Whether a constructor has run.
  bool ran() const { return ::access(mark.c_str(), F_OK) == 0; }
  folder f, aside;
  const std::string mark = aside.path + "/mark";
};

TEST_F(marked, ARightOneRuns) {
  const std::string bytes = fresh("right");
  f.write("specimen.so", bytes);
  f.write("specimen.yaml", manifest_of(*digest_text(bytes)));
  EXPECT_EQ(outcome(f), "loaded");
  EXPECT_TRUE(ran());
}

TEST_F(marked, OneByteMoreAndItNeverRuns) {
  const std::string bytes = fresh("right");
  f.write("specimen.so", bytes + "x");
  f.write("specimen.yaml", manifest_of(*digest_text(bytes)));
  EXPECT_EQ(outcome(f), "PluginDigestWrong");
  EXPECT_FALSE(ran());
}

TEST_F(marked, WhatOthersMayWriteNeverRuns) {
  const std::string bytes = fresh("right");
  f.write("specimen.so", bytes, 0664);
  f.write("specimen.yaml", manifest_of(*digest_text(bytes)));
  EXPECT_EQ(outcome(f), "PluginNotPrivate");
  f.write("specimen.so", bytes);
  f.write("specimen.yaml", manifest_of(*digest_text(bytes)), 0666);
  EXPECT_EQ(outcome(f), "PluginNotPrivate");
  f.write("specimen.yaml", manifest_of(*digest_text(bytes)));
  ASSERT_EQ(::chmod(f.path.c_str(), 0777), 0);
  EXPECT_EQ(outcome(f), "PluginFolderNotPrivate");
  EXPECT_FALSE(ran());
  ASSERT_EQ(::chmod(f.path.c_str(), 0700), 0);
  EXPECT_EQ(outcome(f), "loaded") << "nothing else was wrong";
}

TEST_F(marked, WhatElfForbidsNeverRuns) {
  const std::pair<const char *, const char *> all[] = {
      {"extra", "PluginSymbolExtra"},      {"missing", "PluginSymbolMissing"},
      {"unwinder", "PluginOwnUnwinder"},   {"executable_stack", "PluginExecutableStack"},
      {"search_path", "PluginSearchPath"}, {"static_tls", "PluginStaticTls"}};
  std::size_t refused = 0;
  for (const auto &[name, expected] : all) {
    const std::string bytes = fresh(name);
    f.write("specimen.so", bytes);
    f.write("specimen.yaml", manifest_of(*digest_text(bytes)));
    EXPECT_EQ(outcome(f), expected) << name;
    refused += outcome(f) == expected;
  }
  EXPECT_FALSE(ran());
  std::printf("%zu of %zu refused before a line of them ran\n", refused, std::size(all));
}

TEST_F(marked, WhatIsMappedIsWhatWasRead) {
  const std::string bytes = fresh("right");
  f.write("specimen.so", bytes);
  const auto opened = open_trusted_folder(f.path);
  ASSERT_TRUE(opened);
  const auto file = read_trusted_file(*opened, "specimen.so", bytes.size(), reason::PluginLibraryMissing);
  ASSERT_TRUE(file);
  // Exchanged between check and load, in the very same file.
  std::string other = fresh("wrong");
  f.write("specimen.so", other);
  const auto entry = map_library(*file, *digest_text(file->bytes), "specimen.so");
  ASSERT_TRUE(entry) << entry.error().text();
  std::ifstream said(mark);
  std::string line;
  std::getline(said, line);
  EXPECT_EQ(line, "right");
}

TEST_F(marked, TheSameBytesAreMappedOnce) {
  const std::string bytes = fresh("right");
  f.write("a.so", bytes);
  f.write("b.so", bytes);
  const auto opened = open_trusted_folder(f.path);
  ASSERT_TRUE(opened);
  thole_plugin_entry_v1_fn first = nullptr;
  for (const char *name : {"a.so", "b.so", "a.so"}) {
    const auto file = read_trusted_file(*opened, name, bytes.size(), reason::PluginLibraryMissing);
    const auto entry = map_library(*file, *digest_text(file->bytes), name);
    ASSERT_TRUE(entry) << entry.error().text();
    EXPECT_TRUE(first == nullptr || first == *entry);
    first = *entry;
  }
  std::ifstream said(mark);
  const std::string all{std::istreambuf_iterator<char>(said), {}};
  EXPECT_EQ(all, "right\n") << "one constructor, once";
}

TEST_F(marked, AHashTableThatLeadsNowhereIsARefusal) {
  std::string bytes = fresh("right");
  // The bloom filter lets nothing through: the symbol is in the table, and dlsym does not find it.
  const std::size_t named = bytes.find("thole_plugin_entry_v1");
  ASSERT_NE(named, std::string::npos);
  bool cut = false;
  // The table is found by its head: buckets, first symbol, bloom words, bloom shift.
  for (std::size_t at = 0; at + 24 < named && !cut; at += 4) {
    uint32_t head[4];
    std::memcpy(head, bytes.data() + at, sizeof head);
    if (head[0] == 0 || head[0] > 8 || head[1] == 0 || head[1] > 200 || head[2] != 1 || head[3] == 0 || head[3] > 31)
      continue;
    std::memset(bytes.data() + at + 16, 0, 8);
    const auto facts = read_elf(raw(bytes));
    cut = facts && check_elf(*facts, "x") && head[0] + head[1] > 2;
  }
  ASSERT_TRUE(cut) << "no hash table was found";
  f.write("specimen.so", bytes);
  f.write("specimen.yaml", manifest_of(*digest_text(bytes)));
  EXPECT_EQ(outcome(f), "PluginSymbolMissing");
}

}  // namespace
}  // namespace thole::loader
