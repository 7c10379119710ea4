// Rules A1 and A2: one entry, one root table, and what it answers to hosts of other versions.
#include "slots.h"

using namespace host;

namespace {

thole_entry_v1_fn entry() {
  void *loaded = dlopen(library(), RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<thole_entry_v1_fn>(dlsym(loaded, THOLE_ENTRY_SYMBOL));
}

TEST(entry, answers_with_every_service) {
  const thole_root *r = root();
  EXPECT_EQ(r->struct_size, sizeof(thole_root));
  EXPECT_EQ(r->abi_major, THOLE_ABI_MAJOR);
  EXPECT_EQ(r->abi_minor, THOLE_ABI_MINOR);
  EXPECT_EQ(text(r->version), "0.1.0");
  for (const void *table : {static_cast<const void *>(r->core), static_cast<const void *>(r->gang),
                            static_cast<const void *>(r->checkpoint), static_cast<const void *>(r->job),
                            static_cast<const void *>(r->device), static_cast<const void *>(r->partition),
                            static_cast<const void *>(r->metrics), static_cast<const void *>(r->recovery)})
    EXPECT_NE(table, nullptr);
}

template <class T>
void expect_full(const T *table, const char *name) {
  ASSERT_NE(table, nullptr) << name;
  EXPECT_EQ(table->struct_size, sizeof(T)) << name;
  const auto *words = reinterpret_cast<void *const *>(table);
  for (std::size_t i = 1; i < table->struct_size / sizeof(void *); ++i) EXPECT_NE(words[i], nullptr) << name << i;
}

TEST(entry, every_slot_within_a_tables_size_is_filled) {
  const thole_root *r = root();
  expect_full(r->core, "core");
  expect_full(r->gang, "gang");
  expect_full(r->checkpoint, "checkpoint");
  expect_full(r->job, "job");
  expect_full(r->device, "device");
  expect_full(r->partition, "partition");
  expect_full(r->metrics, "metrics");
  expect_full(r->recovery, "recovery");
}

TEST(entry, the_tests_call_every_slot) {
  world w;
  printf("%zu of %zu slots\n", every_slot(w).size(), slots_of_all_tables());
  EXPECT_EQ(every_slot(w).size(), slots_of_all_tables());
}

TEST(entry, refuses_another_major_and_a_newer_minor) {
  for (const auto &[major, minor] : {std::pair{THOLE_ABI_MAJOR, THOLE_ABI_MINOR + 1u},
                                     std::pair{THOLE_ABI_MAJOR + 1u, 0u}, std::pair{THOLE_ABI_MAJOR, UINT32_MAX}}) {
    thole_status status = sized<thole_status>();
    EXPECT_EQ(entry()(major, minor, &status), nullptr);
    EXPECT_STREQ(status.reason, "AbiUnsupported");
    EXPECT_EQ(status.code, THOLE_UNSUPPORTED);
    EXPECT_EQ(entry()(major, minor, nullptr), nullptr);
  }
}

TEST(entry, an_older_host_gets_what_is_stable_and_no_draft) {
  static_assert(THOLE_ABI_MINOR > 0);
  const thole_root *r = entry()(THOLE_ABI_MAJOR, THOLE_ABI_MINOR - 1, nullptr);
  ASSERT_NE(r, nullptr);
  EXPECT_NE(r->core, nullptr);
  EXPECT_NE(r->gang, nullptr);
  EXPECT_NE(r->checkpoint, nullptr);
  EXPECT_EQ(r->job, nullptr);
  EXPECT_EQ(r->device, nullptr);
  EXPECT_EQ(r->metrics, nullptr);
  // The other answer is not changed by this one.
  EXPECT_NE(entry()(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr)->job, nullptr);
}

TEST(entry, answers_the_same_every_time) {
  EXPECT_EQ(entry()(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr), root());
}

}  // namespace
