// What was saved comes back, from any number of ranks to any number, and nothing of it lies in the store in clear.
#include <fstream>
#include <unordered_set>

#include "fixture.h"

namespace thole::checkpoint::test {
namespace {

std::vector<tensor> cut_tensors() {
  std::vector<tensor> out;
  uint64_t seed = 1;
  for (std::string_view dtype : dtype_names()) {
    const uint64_t size = *element_size(dtype);
    out.push_back({"cut." + std::string(dtype), std::string(dtype), {17, 3}, noise(17 * 3 * size, seed++)});
  }
  out.push_back({"cut.large", "bfloat16", {1001, 150}, noise(1001 * 150 * 2, seed++)});
  out.push_back({"cut.fewer-rows-than-ranks", "int64", {2}, noise(16, seed++)});
  out.push_back({"cut.no-rows", "float32", {0, 7}, ""});
  out.push_back({"cut.no-columns", "float32", {7, 0}, ""});
  return out;
}

std::vector<tensor> replicated_tensors() {
  const std::string nan("\x01\x00\xc0\x7f\xff\xff\xff\xff", 8);  // a NaN with a payload, and a negative one
  return {{"scalar", "float64", {}, noise(8, 99)},
          {"nan", "float32", {2}, nan},
          {"empty", "float16", {0}, ""},
          {"exact-chunk", "uint8", {65536}, noise(65536, 100)},
          {"deep", "int8", std::vector<uint64_t>(32, 1), "x"},
          {"odd", "uint8", {65537}, noise(65537, 101)}};
}

result<> save_all(const std::function<target()> &where, uint32_t ranks) {
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    THOLE_LET(auto w, writer::begin(where(), {1, 50, rank, ranks, 16}));
    for (const tensor &t : cut_tensors()) THOLE_TRY(put_rows(*w, t, rank, ranks, true));
    for (const tensor &t : replicated_tensors()) THOLE_TRY(put_rows(*w, t, rank, ranks, false));
    THOLE_TRY(put_value(*w, "value.int", item_kind::integer, noise(8, 200)));
    THOLE_TRY(put_value(*w, "value.float", item_kind::real, noise(8, 201)));
    THOLE_TRY(put_value(*w, "value.bool", item_kind::boolean, std::string(1, '\1')));
    THOLE_TRY(put_value(*w, "value.text", item_kind::text, "Gr\xC3\xBC\xC3\x9F"));
    THOLE_TRY(put_value(*w, "value.bytes", item_kind::bytes, std::string("\0\xFF", 2)));
    THOLE_LET(const sealed s, w->seal());
    if (s.committed != (rank + 1 == ranks) || s.missing != ranks - rank - 1)
      return fail(reason::Defect, "rank {}: committed {}, missing {}", rank, s.committed, s.missing);
  }
  return {};
}

TEST(RoundTrip, FourRanksSavedAndOneThreeFourAndFiveRestore) {
  disk d;
  ASSERT_OK(save_all([&] { return in_memory(d); }, 4));
  int pieces = 0;
  for (uint32_t ranks : {1u, 3u, 4u, 5u})
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      auto r = reader::open(in_memory(d), {});
      ASSERT_OK(r);
      for (const tensor &t : cut_tensors()) {
        const auto rows = rows_of_rank(t.shape[0], rank, ranks);
        const std::size_t row = t.shape[0] == 0 ? 0 : t.data.size() / t.shape[0];
        auto got = get_rows(**r, t.name, rows[0], rows[1]);
        ASSERT_OK(got);
        ASSERT_EQ(*got, t.data.substr(rows[0] * row, rows[1] * row)) << t.name;
        ++pieces;
      }
      for (const tensor &t : replicated_tensors()) {
        auto got = get_rows(**r, t.name, 0, t.shape.empty() ? 1 : t.shape[0]);
        ASSERT_OK(got);
        ASSERT_EQ(*got, t.data) << t.name;
        ++pieces;
      }
      std::string value(8, '\0');
      ASSERT_OK((*r)->get_value(*(*r)->what().body.find("value.float"),
                                {reinterpret_cast<unsigned char *>(value.data()), value.size()}));
      ASSERT_EQ(value, noise(8, 201));
    }
  std::printf("round trips: %d pieces equal\n", pieces);
  auto r = reader::open(in_memory(d), {});
  auto v = (*r)->verify();
  ASSERT_OK(v);
  EXPECT_EQ(v->parts, 4u);
}

// Boxes cut along two dimensions are in the format; rows are read out of them.
TEST(RoundTrip, RowsOutOfATwoByTwoMesh) {
  disk d;
  const std::string all = noise(6 * 10 * 4, 7);
  for (uint32_t rank = 0; rank < 4; ++rank) {
    auto w = writer::begin(in_memory(d), {1, 1, rank, 4, 16});
    ASSERT_OK(w);
    const uint64_t r0 = rank / 2 == 0 ? 0 : 4;
    const uint64_t c0 = rank % 2 == 0 ? 0 : 3;
    const box where{{r0, c0}, {rank / 2 == 0 ? 4u : 2u, rank % 2 == 0 ? 3u : 7u}};
    std::string data;
    for (uint64_t i = 0; i < where.extent[0]; ++i) data += all.substr(((r0 + i) * 10 + c0) * 4, where.extent[1] * 4);
    ASSERT_OK((*w)->put({"mesh", item_kind::tensor, "float32", {6, 10}}, where, octets_of(data)));
    ASSERT_OK((*w)->seal());
  }
  auto r = reader::open(in_memory(d), {});
  ASSERT_OK(r);
  int checked = 0;
  for (uint64_t first = 0; first < 6; ++first)
    for (uint64_t rows = 1; first + rows <= 6; ++rows, ++checked) {
      auto got = get_rows(**r, "mesh", first, rows);
      ASSERT_OK(got);
      ASSERT_EQ(*got, all.substr(first * 40, rows * 40));
    }
  std::printf("row ranges of a mesh: %d of 21 equal\n", checked);
}

TEST(RoundTrip, NothingOfItLiesInTheStoreInClear) {
  const scratch folder;
  ASSERT_OK(save_all([&] { return in_folder(folder.path()); }, 2));
  // Every run of 64 plain bytes, by its first 64.
  std::unordered_set<std::string_view> plain;
  std::vector<std::string> keep;
  for (const tensor &t : cut_tensors()) keep.push_back(t.data);
  for (const tensor &t : replicated_tensors()) keep.push_back(t.data);
  for (const std::string &s : keep)
    for (std::size_t i = 0; i + 64 <= s.size(); ++i) plain.insert(std::string_view(s).substr(i, 64));
  std::size_t searched = 0;
  std::size_t found = 0;
  for (const auto &e : std::filesystem::recursive_directory_iterator(folder.path())) {
    if (!e.is_regular_file()) continue;
    std::ifstream in(e.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(bytes.find("cut.large"), bytes.npos) << e.path();  // nor a name
    for (std::size_t i = 0; i + 64 <= bytes.size(); ++i, ++searched)
      if (plain.contains(std::string_view(bytes).substr(i, 64))) ++found;
  }
  EXPECT_GT(searched, 600'000u);
  EXPECT_EQ(found, 0u);
  std::printf("plain runs of 64 bytes: %zu of %zu known ones found in %zu places\n", found, plain.size(), searched);
}

TEST(RoundTrip, HistoryListRetireAndTheAnchor) {
  const scratch folder;
  const auto where = [&] {
    target t = in_folder(folder / "store");
    t.anchor = folder / "anchor";
    return t;
  };
  EXPECT_WHY(reader::open(where(), {}), StoreGone);
  for (uint64_t step : {10u, 20u, 30u, 40u}) ASSERT_OK(save_small(where(), 1, step, 0, 1));
  ASSERT_OK(save_small(where(), 1, 50, 0, 2));  // incomplete: being written
  auto at_20 = reader::open(where(), {{}, 20});
  ASSERT_OK(at_20);
  EXPECT_TRUE((*at_20)->fresh());
  auto removed = [&] {
    target t = where();
    return retire(t, 2);
  }();
  ASSERT_OK(removed);
  EXPECT_EQ(*removed, 2u);
  EXPECT_OK((*at_20)->verify());  // what a reader has open stays readable to it
  EXPECT_WHY(check_small(where(), {{}, 10}), CheckpointNone);
  target t = where();
  auto all = list(t);
  ASSERT_OK(all);
  ASSERT_EQ(all->size(), 3u);
  EXPECT_EQ((*all)[0].state, status_of::incomplete);
  EXPECT_EQ((*all)[0].parts_present, 1u);
  EXPECT_EQ((*all)[0].where.parts, 2u);
  EXPECT_EQ((*all)[1].where.step, 40u);
  EXPECT_EQ((*all)[1].sequence, 4u);
  EXPECT_TRUE((*all)[1].fresh);
  EXPECT_GT((*all)[1].file_bytes, 4 * page);
  t.key.reset();
  auto clear = list(t);
  ASSERT_OK(clear);
  ASSERT_EQ(clear->size(), 3u);
  EXPECT_FALSE((*clear)[1].fresh);
  EXPECT_EQ((*clear)[1].bytes, 0u);
  // The newest is taken away: the anchor knows.
  std::filesystem::remove_all(folder / ("store/" + step_folder(the_run, 40)));
  EXPECT_WHY(check_small(where()), CheckpointRolledBack);
  target gone = in_folder(folder / "no-such-store");
  EXPECT_WHY(list(gone), StoreGone);
}

TEST(RoundTrip, TensorsOfOtherRanksAreHeldAgainstEachOther) {
  const auto with = [](auto first, auto second) {
    disk d;
    result<sealed> last = fail(reason::Defect, "no seal");
    for (uint32_t rank = 0; rank < 2; ++rank) {
      auto w = writer::begin(in_memory(d), {1, 1, rank, 2, 16});
      if (!w) return result<sealed>(tl::unexpected(w.error()));
      auto put = rank == 0 ? first(**w) : second(**w);
      if (!put) return result<sealed>(tl::unexpected(put.error()));
      last = (*w)->seal();
    }
    auto opened = reader::open(in_memory(d), {});
    EXPECT_EQ(opened.has_value(), last.has_value());
    return last;
  };
  const auto rows = [](uint64_t first, uint64_t count, const char *dtype = "float32", uint64_t total = 4) {
    return [=](writer &w) {
      return w.put({"t", item_kind::tensor, dtype, {total}}, {{first}, {count}},
                   octets_of(noise(count * *element_size(dtype), 5)));
    };
  };
  const auto value = [](const std::string &v) {
    return [=](writer &w) { return put_value(w, "v", item_kind::text, v); };
  };
  EXPECT_OK(with(rows(0, 2), rows(2, 2)));
  EXPECT_OK(with(rows(0, 4), rows(0, 4)));
  EXPECT_OK(with(value("a"), value("a")));
  EXPECT_WHY(with(value("a"), value("b")), PartsDisagree);
  EXPECT_WHY(with(rows(0, 2), rows(1, 2)), PartsDisagree);
  EXPECT_WHY(with(rows(0, 2), rows(3, 1)), PartsDisagree);
  EXPECT_WHY(with(rows(0, 4), rows(2, 2)), PartsDisagree);
  EXPECT_WHY(with(rows(0, 2), rows(2, 2, "int32")), PartsDisagree);
  EXPECT_WHY(with(rows(0, 2), rows(2, 3, "float32", 5)), PartsDisagree);
  EXPECT_WHY(with(
                 [&](writer &w) {
                   return w.put({"t", item_kind::tensor, "uint8", {2}}, {{0}, {2}}, octets_of("ab"));
                 },
                 [&](writer &w) {
                   return w.put({"t", item_kind::tensor, "uint8", {2}}, {{0}, {2}}, octets_of("ac"));
                 }),
             PartsDisagree);
}

TEST(RoundTrip, BadItemsAreRefusedAndTheWriterGoesOn) {
  disk d;
  auto w = writer::begin(in_memory(d), {1, 1, 0, 1, 16});
  ASSERT_OK(w);
  const auto put = [&](item_head h, box b, const std::string &data) { return (*w)->put(h, b, octets_of(data)); };
  EXPECT_WHY(put({"", item_kind::tensor, "uint8", {1}}, {{0}, {1}}, "a"), ItemBad);
  EXPECT_WHY(put({std::string(1025, 'n'), item_kind::tensor, "uint8", {1}}, {{0}, {1}}, "a"), OverBound);
  EXPECT_WHY(put({"o", item_kind::tensor, "object", {1}}, {{0}, {1}}, "a"), ItemBad);
  EXPECT_WHY(put({"f", item_kind::tensor, "flaot32", {1}}, {{0}, {1}}, "aaaa"), ItemBad);
  EXPECT_WHY(put({"x", item_kind::tensor, "uint8", {2}}, {{1}, {2}}, "ab"), ItemBad);
  EXPECT_WHY(put({"x", item_kind::tensor, "uint8", {2}}, {{UINT64_MAX}, {2}}, "ab"), ItemBad);
  EXPECT_WHY(put({"x", item_kind::tensor, "uint8", {2}}, {{0}, {2}}, "abc"), ItemBad);
  EXPECT_WHY(put({"x", item_kind::tensor, "float64", {UINT64_MAX / 4, 4}}, {{0, 0}, {0, 0}}, ""), ItemBad);
  EXPECT_WHY(put({"x", item_kind::tensor, "uint8", std::vector<uint64_t>(33, 1)}, {}, "a"), OverBound);
  EXPECT_WHY(put({"b", item_kind::boolean, "", {}}, {}, "\2"), ItemBad);
  EXPECT_WHY(put({"i", item_kind::integer, "", {}}, {}, "1234"), ItemBad);
  EXPECT_WHY(put({"t", item_kind::text, "", {}}, {}, "\xFF"), ItemBad);
  EXPECT_WHY(put({"l", item_kind::bytes, "", {}}, {}, std::string(16777217, 'x')), OverBound);
  EXPECT_OK(put({"good", item_kind::tensor, "uint8", {1}}, {{0}, {1}}, "a"));
  EXPECT_WHY(put({"good", item_kind::tensor, "uint8", {1}}, {{0}, {1}}, "a"), ItemBad);
  auto s = (*w)->seal();
  ASSERT_OK(s);
  EXPECT_TRUE(s->committed);
  EXPECT_WHY(put({"late", item_kind::tensor, "uint8", {1}}, {{0}, {1}}, "a"), WriterSealed);
  auto again = (*w)->seal();  // looks again
  ASSERT_OK(again);
  EXPECT_TRUE(again->committed);
  EXPECT_WHY(writer::begin(in_memory(d), {1, 1, 0, 1, 16}), PartExists);
}

}  // namespace
}  // namespace thole::checkpoint::test
