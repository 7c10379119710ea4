#include "capi/room.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace thole {
namespace {

struct row {
  uint64_t number;
  thole_str name;
};

result<> lay_out(thole_buffer *to, thole_list *list) {
  room r(to);
  THOLE_TRY(r.check());
  auto *rows = r.array<row>(3);
  for (uint64_t i = 0; i < 3; ++i) rows[i] = {i, r.text("row " + std::to_string(i))};
  *list = room::list(rows, 3);
  return r.finish();
}

TEST(Room, AsksForItsSizeThenFillsExactlyThat) {
  thole_list list{};
  thole_buffer ask{};
  const auto first = lay_out(&ask, &list);
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().why, reason::BufferTooSmall);
  std::vector<uint64_t> memory(ask.used / 8 + 1, 0xA5A5A5A5A5A5A5A5);
  thole_buffer lent{memory.data(), ask.used, 0};
  ASSERT_TRUE(lay_out(&lent, &list));
  EXPECT_EQ(lent.used, ask.used);
  EXPECT_EQ(memory.back(), 0xA5A5A5A5A5A5A5A5);
  for (uint64_t i = 0; i < 3; ++i) {
    const row *r = THOLE_AT(list, row, i);
    EXPECT_EQ(r->number, i);
    EXPECT_EQ(std::string(r->name.data, r->name.len), "row " + std::to_string(i));
  }
}

// One size after the other below what is needed: told, and not a byte beyond the loan.
TEST(Room, EverySmallerSizeIsTold) {
  thole_list list{};
  thole_buffer ask{};
  (void)lay_out(&ask, &list);
  uint64_t told = 0;
  for (uint64_t size = 0; size < ask.used; ++size) {
    std::vector<unsigned char> memory(ask.used + 64, 0xA5);
    thole_buffer lent{memory.data(), size, 0};
    const auto done = lay_out(&lent, &list);
    told += !done && done.error().why == reason::BufferTooSmall && lent.used == ask.used;
    for (uint64_t i = size; i < memory.size(); ++i) ASSERT_EQ(memory[i], 0xA5);
  }
  std::printf("sizes: %lu of %lu\n", told, ask.used);
  EXPECT_EQ(told, ask.used);
}

TEST(Room, WhatCannotBeUsedIsRefusedBeforeAnythingHappens) {
  thole_list list{};
  EXPECT_EQ(lay_out(nullptr, &list).error().why, reason::ArgumentMissing);
  thole_buffer null_data{nullptr, 64, 0};
  EXPECT_EQ(lay_out(&null_data, &list).error().why, reason::ArgumentBad);
  alignas(8) char memory[128];
  thole_buffer odd{memory + 4, 64, 0};
  EXPECT_EQ(lay_out(&odd, &list).error().why, reason::ArgumentBad);
}

TEST(Room, EmptyTextAndEmptyListAreNull) {
  thole_buffer none{};
  room r(&none);
  EXPECT_EQ(r.text("").data, nullptr);
  EXPECT_EQ(room::list<row>(nullptr, 0).count, 0u);
  EXPECT_TRUE(r.finish());
}

}  // namespace
}  // namespace thole
