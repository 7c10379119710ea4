// Rule A4: a status is written on failure only, never beyond its size, and says a known reason in a printable sentence.
#include "slots.h"

using namespace host;

namespace {

// A call that fails, whatever happens: its argument is NULL.
thole_code fail(thole_status *status) {
  return root()->core->open(nullptr, nullptr, status);
}

TEST(status, may_be_missing) {
  EXPECT_EQ(fail(nullptr), THOLE_INVALID);
}

TEST(status, is_never_written_beyond_its_size) {
  int tried = 0;
  for (uint64_t size = 0; size <= sizeof(thole_status) + 64; ++size) {
    std::vector<unsigned char> bytes(sizeof(thole_status) + 256, 0xA5);
    std::memcpy(bytes.data(), &size, sizeof size);
    EXPECT_EQ(fail(reinterpret_cast<thole_status *>(bytes.data())), THOLE_INVALID);
    uint64_t kept = 0;
    std::memcpy(&kept, bytes.data(), sizeof kept);
    EXPECT_EQ(kept, size) << "struct_size is the caller's";
    const uint64_t may = std::max<uint64_t>(sizeof(uint64_t), std::min<uint64_t>(size, sizeof(thole_status)));
    for (std::size_t i = may; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], 0xA5) << "size " << size << ", byte " << i;
    ++tried;
  }
  printf("%d sizes\n", tried);
}

TEST(status, of_an_older_header_ends_its_texts) {
  // A header has whole fields: these are the sizes that one could have had.
  for (const uint64_t size : {THOLE_END(thole_status, reason), THOLE_END(thole_status, message)}) {
    thole_status status;
    std::memset(static_cast<void *>(&status), 'x', sizeof status);
    status.struct_size = size;
    fail(&status);
    EXPECT_NE(std::memchr(status.reason, 0, sizeof status.reason), nullptr) << size;
    if (size == sizeof status) {
      EXPECT_NE(std::memchr(status.message, 0, sizeof status.message), nullptr);
    }
  }
}

TEST(status, is_left_alone_by_success) {
  std::vector<unsigned char> before(sizeof(thole_status), 0x5A), after;
  const uint64_t size = sizeof(thole_status);
  std::memcpy(before.data(), &size, sizeof size);
  after = before;
  thole_core core{};
  ASSERT_EQ(root()->core->open(nullptr, &core, reinterpret_cast<thole_status *>(after.data())), THOLE_OK);
  root()->core->close(core, reinterpret_cast<thole_status *>(after.data()));
  EXPECT_EQ(before, after);
}

TEST(status, says_a_known_reason_and_a_clean_sentence) {
  const std::vector<std::pair<std::string, thole_code>> known = {
#define X(name, code, meaning, remedy) {#name, code},
      THOLE_REASONS(X)
#undef X
  };
  world w;
  int failed = 0;
  for (const auto &one : every_slot(w)) {
    thole_status status = sized<thole_status>();
    const thole_code code = one.call({}, &status);
    if (code == THOLE_OK) continue;
    ++failed;
    EXPECT_EQ(status.code, code) << one.name;
    bool found = false;
    for (const auto &[name, its_code] : known) found = found || (name == status.reason && its_code == code);
    EXPECT_TRUE(found) << one.name << " answers " << code << " with the reason " << status.reason;
    const std::string sentence = status.message;
    EXPECT_FALSE(sentence.empty()) << one.name;
    for (const char c : sentence) EXPECT_GE(static_cast<unsigned char>(c), 0x20) << one.name << ": " << sentence;
  }
  printf("%d failures\n", failed);
  EXPECT_GT(failed, 20);
}

TEST(status, cuts_a_long_sentence_between_characters) {
  world w;
  w.open();
  const std::string long_path = "/" + std::string(1500, 'a') + std::string("\xC3\xA4\xC3\xA4") + std::string(1500, 'b');
  thole_status status = sized<thole_status>();
  ASSERT_NE(root()->core->load(w.core, str(long_path), &status), THOLE_OK);
  const std::string sentence = status.message;
  EXPECT_LT(sentence.size(), sizeof status.message);
  if (sentence.size() > 300) {
    EXPECT_NE(status.flags & THOLE_STATUS_TRUNCATED, 0u);
  }
}

}  // namespace
