#include "base/status.h"

#include <gtest/gtest.h>

#include <cstring>
#include <iterator>
#include <string>

namespace thole {
namespace {

TEST(Status, EveryReasonHasANameACodeAndFits) {
  // A table and one loop: spelled out for each of them, the checks would take a compiler minutes.
  const struct {
    reason why;
    const char *name;
    thole_code code;
    const char *meaning, *remedy;
  } all[] = {
#define X(name, code, meaning, remedy) {reason::name, #name, code, meaning, remedy},
      THOLE_REASONS(X)
#undef X
  };
  for (const auto &one : all) {
    EXPECT_EQ(name_of(one.why), one.name);
    EXPECT_EQ(code_of(one.why), one.code);
    EXPECT_LT(name_of(one.why).size(), sizeof(thole_status::reason));
    EXPECT_GT(std::strlen(one.meaning), 10u) << one.name;
    EXPECT_GT(std::strlen(one.remedy), 4u) << one.name;
  }
  std::printf("reasons: %zu of %zu\n", std::size(all), std::size(all));
}

TEST(Status, ReportFillsAStatus) {
  thole_status s{};
  s.struct_size = sizeof s;
  const error e = fail(reason::StoreFull, "{} has {} bytes left", "a", 3).value().with_errno(28);
  EXPECT_EQ(report(e, &s), THOLE_EXHAUSTED);
  EXPECT_EQ(s.code, THOLE_EXHAUSTED);
  EXPECT_STREQ(s.reason, "StoreFull");
  EXPECT_STREQ(s.message, "a has 3 bytes left");
  EXPECT_EQ(s.os_errno, 28);
  EXPECT_EQ(s.struct_size, sizeof s);
}

TEST(Status, ReportWithoutAStatusStillAnswersTheCode) {
  EXPECT_EQ(report(fail(reason::Forked, "x").value(), nullptr), THOLE_FORKED);
}

// For each size that a caller may have been compiled with: not one byte beyond it changes.
TEST(Status, ReportKeepsToTheCallersSize) {
  const error e = fail(reason::StoreFull, "{}", std::string(1000, 'x')).value();
  int sizes = 0;
  for (uint64_t size = 0; size <= sizeof(thole_status); ++size, ++sizes) {
    alignas(8) unsigned char memory[sizeof(thole_status) + 64];
    std::memset(memory, 0xA5, sizeof memory);
    auto *s = reinterpret_cast<thole_status *>(memory);
    s->struct_size = size;
    report(e, s);
    EXPECT_EQ(s->struct_size, size);
    for (std::size_t i = size < 8 ? 8 : size; i < sizeof memory; ++i)
      ASSERT_EQ(memory[i], 0xA5) << "size " << size << " byte " << i;
  }
  std::printf("sizes: %d of %zu\n", sizes, sizeof(thole_status) + 1);
}

TEST(Status, ALongSentenceIsCutBetweenCharacters) {
  std::string long_text(sizeof(error::message) - 2, 'x');
  long_text += "\xC3\xA9\xC3\xA9";  // The cut falls inside the first one.
  const error e = fail(reason::ArgumentBad, "{}", long_text).value();
  EXPECT_TRUE(e.flags & THOLE_STATUS_TRUNCATED);
  EXPECT_EQ(e.text().size(), sizeof(error::message) - 2);
  EXPECT_EQ(e.text().back(), 'x');
}

TEST(Status, ControlCharactersDoNotReachATerminal) {
  EXPECT_EQ(fail(reason::ArgumentBad, "a{}b", "\n\x1b[31m").value().text(), "a  [31mb");
}

TEST(Status, AnErrnoBringsItsText) {
  const error e = fail_errno(reason::SystemCallFailed, 2, "cannot open {}", "x").value();
  EXPECT_EQ(e.text(), "cannot open x: No such file or directory");
  EXPECT_EQ(e.os_errno, 2);
}

}  // namespace
}  // namespace thole
