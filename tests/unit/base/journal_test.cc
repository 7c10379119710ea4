// Records that survive: what is read back is what was appended, or its beginning, or a refusal.
#include "base/journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

namespace {

using namespace thole;

class Journal : public ::testing::Test {
 protected:
  Journal() {
    std::string name = (std::filesystem::temp_directory_path() / "thole-records-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~Journal() override { std::filesystem::remove_all(folder_); }

  journal open(uint32_t version = 1) {
    auto j = journal::open(folder_, "test", version);
    EXPECT_TRUE(j);
    return std::move(*j);
  }
  // What has been appended since, or the reason.
  std::string read(journal &j, journal::access how = journal::access::write) {
    std::string out;
    const journal::reader to{[&] { out = "(anew)"; },
                             [&](std::string_view payload) -> result<> {
                               out += "[" + std::string(payload) + "]";
                               return {};
                             }};
    auto held = j.lock(how);
    EXPECT_TRUE(held);
    const auto done = j.catch_up(*held, how, to);
    return done ? out : std::string(name_of(done.error().why));
  }
  void append(journal &j, std::string_view payload) {
    auto held = j.lock(journal::access::write);
    ASSERT_TRUE(held && j.append(*held, payload));
    j.pass();
  }
  std::string path() const { return folder_ + "/test.journal"; }
  std::string bytes() const { return *read_file(path(), 1 << 20); }
  void spill(const std::string &content) const {
    auto fd = open_file(path(), O_WRONLY | O_TRUNC);
    ASSERT_TRUE(fd && write_all(fd->get(), content.data(), content.size(), path()));
  }
  std::string folder_;
};

TEST_F(Journal, GivesBackWhatWasAppended) {
  journal a = open();
  EXPECT_EQ(read(a), "(anew)");
  append(a, "one");
  append(a, "");
  append(a, std::string("\0\xff", 2));
  journal b = open();
  EXPECT_EQ(read(b, journal::access::read), std::string("(anew)[one][][\0\xff]", 17));
  EXPECT_TRUE(b.is_current());
  append(a, "two");
  EXPECT_FALSE(b.is_current());
  EXPECT_EQ(read(b), "[two]") << "only what is new";
}

TEST_F(Journal, ARewriteIsSeenAsAnotherFile) {
  journal a = open(), b = open();
  read(a);
  append(a, "one");
  read(b);
  {
    auto held = a.lock(journal::access::write);
    ASSERT_TRUE(a.rewrite(*held, "all"));
  }
  append(a, "two");
  EXPECT_FALSE(b.is_current());
  EXPECT_EQ(read(b), "(anew)[all][two]");
}

TEST_F(Journal, AnUnfinishedEndIsLeftByReadersAndCutOffByWriters) {
  journal a = open();
  read(a);
  append(a, "one");
  const std::string good = bytes();
  append(a, "two");
  const std::string whole = bytes();
  for (std::size_t n = good.size() + 1; n < whole.size(); ++n) {
    spill(whole.substr(0, n));
    journal reader = open();
    EXPECT_EQ(read(reader, journal::access::read), "(anew)[one]") << n;
    EXPECT_TRUE(reader.cut_off());
    EXPECT_EQ(bytes().size(), n) << "a reader changes nothing";
    journal writer = open();
    EXPECT_EQ(read(writer), "(anew)[one]") << n;
    EXPECT_EQ(bytes(), good) << n;
  }
}

TEST_F(Journal, RecordsCannotBeChangedLeftOutOrMoved) {
  journal a = open();
  read(a);
  const std::size_t header = bytes().size();
  append(a, "one");
  append(a, "two");
  append(a, "six");
  const std::string whole = bytes();
  const std::size_t each = (whole.size() - header) / 3;
  const auto record = [&](std::size_t i) { return whole.substr(header + i * each, each); };
  const auto refused = [&](const std::string &content, const char *what) {
    spill(content);
    journal j = open();
    EXPECT_EQ(read(j), "JournalDamaged") << what;
  };
  const std::string head = whole.substr(0, header);
  refused(head + record(1) + record(2), "the first is left out");
  refused(head + record(0) + record(2), "one is left out");
  refused(head + record(1) + record(0) + record(2), "two are swapped");
  refused(head + record(0) + record(0) + record(1), "one is there twice");
  refused(whole + record(2), "the last is there twice");
  refused(head.substr(0, header - 1), "the header is cut");
  refused("", "nothing is there");
  std::string other = whole;
  other[header + 8] ^= 1;
  refused(other, "a byte of a record");
}

TEST_F(Journal, ANewerVersionIsRefused) {
  journal a = open(2);
  read(a);
  journal b = open(1);
  EXPECT_EQ(read(b), "StateNewer");
  journal c = open(3);
  EXPECT_EQ(read(c), "(anew)") << "older ones are read";
}

TEST_F(Journal, AFileThatVanishesIsTold) {
  journal a = open();
  read(a);
  std::filesystem::remove(path());
  EXPECT_EQ(read(a), "JournalDamaged");
}

}  // namespace
