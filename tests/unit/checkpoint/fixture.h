// Checkpoints of small, known contents for the tests of this folder.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/fence.h"
#include "checkpoint/listing.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"
#include "memory_store.h"

namespace thole::checkpoint::test {

template <class T>
std::string why(const result<T> &r) {
  return r ? "success" : std::string(name_of(r.error().why)) + ": " + std::string(r.error().text());
}
#define ASSERT_OK(expression)                                \
  do {                                                       \
    auto &&ok_ = (expression);                               \
    ASSERT_TRUE(ok_) << ::thole::checkpoint::test::why(ok_); \
  } while (false)
#define EXPECT_OK(expression)                                \
  do {                                                       \
    auto &&ok_ = (expression);                               \
    EXPECT_TRUE(ok_) << ::thole::checkpoint::test::why(ok_); \
  } while (false)
#define EXPECT_WHY(expression, expected)                                                \
  do {                                                                                  \
    auto &&r_ = (expression);                                                           \
    ASSERT_FALSE(r_);                                                                   \
    EXPECT_EQ(name_of(r_.error().why), name_of(reason::expected)) << r_.error().text(); \
  } while (false)

constexpr id128 the_run{0x0102030405060708, 0x090a0b0c0d0e0f10};

// A folder that goes with the test.
class scratch {
 public:
  scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "thole-ckpt-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string &name) const { return path_ + "/" + name; }
  const std::string &path() const { return path_; }

 private:
  std::string path_;
};

// The sanitizers' builds look at one in so many of the states that release looks at.
inline std::size_t one_in() {
  const char *text = std::getenv("THOLE_TEST_ONE_IN");
  return text == nullptr ? 1 : std::max(std::size_t{1}, std::size_t(std::strtoul(text, nullptr, 10)));
}

inline std::string key_file() {
  static const scratch folder;
  static const std::string path = [] {
    const std::string p = folder / "key";
    EXPECT_OK(write_new_key(p));
    return p;
  }();
  return path;
}

inline target in_memory(disk &d, id128 run = the_run) {
  target t;
  t.files = std::make_unique<memory_store>(d);
  t.run = run;
  t.key = key_source{false, key_file(), {}};
  return t;
}
inline target in_folder(const std::string &folder, id128 run = the_run) {
  target t;
  t.files = posix_store(folder);
  t.run = run;
  t.key = key_source{false, key_file(), {}};
  return t;
}

// Bytes that no compressor and no zeroed buffer would make.
inline std::string noise(std::size_t size, uint64_t seed) {
  std::string out(size, '\0');
  std::mt19937_64 random(seed);
  for (char &c : out) c = static_cast<char>(random());
  return out;
}

struct tensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  std::string data;
};

inline std::vector<uint64_t> rows_of_rank(uint64_t rows, uint32_t rank, uint32_t ranks) {
  const uint64_t first = rows * rank / ranks;
  return {first, rows * (rank + 1) / ranks - first};
}

// Puts a tensor's rows of this rank, or all of it if it is replicated.
inline result<> put_rows(writer &w, const tensor &t, uint32_t rank, uint32_t ranks, bool cut) {
  const item_head head{t.name, item_kind::tensor, t.dtype, t.shape};
  box where{std::vector<uint64_t>(t.shape.size()), t.shape};
  std::string_view data = t.data;
  if (cut) {
    const auto r = rows_of_rank(t.shape[0], rank, ranks);
    const std::size_t row = t.shape[0] == 0 ? 0 : t.data.size() / t.shape[0];
    where.start[0] = r[0];
    where.extent[0] = r[1];
    data = data.substr(r[0] * row, r[1] * row);
  }
  return w.put(head, where, octets_of(data));
}

inline result<> put_value(writer &w, const std::string &name, item_kind kind, const std::string &data) {
  return w.put({name, kind, "", {}}, {}, octets_of(data));
}

inline result<std::string> get_rows(reader &r, const std::string &name, uint64_t first, uint64_t rows) {
  const manifest_item *item = r.what().body.find(name);
  if (item == nullptr) return fail(reason::ItemUnknown, "no {}", name);
  std::vector<uint64_t> extent = item->head.shape;
  if (!extent.empty()) extent[0] = rows;
  std::string out(*bytes_of(extent, *element_size(item->head.dtype)), '\0');
  THOLE_TRY(r.get_rows(*item, first, rows, {reinterpret_cast<unsigned char *>(out.data()), out.size()}));
  return out;
}

// A small checkpoint: a cut tensor, a replicated one and a value, all of them functions of `step`.
inline result<sealed> save_small(target t, uint64_t attempt, uint64_t step, uint32_t rank, uint32_t ranks,
                                 std::size_t rows = 12) {
  THOLE_LET(auto w, writer::begin(std::move(t), {attempt, step, rank, ranks, 16}));
  THOLE_TRY(put_rows(*w, {"cut", "float32", {rows, 5}, noise(rows * 20, step)}, rank, ranks, true));
  THOLE_TRY(put_rows(*w, {"whole", "uint8", {33}, noise(33, step + 1)}, rank, ranks, false));
  THOLE_TRY(put_value(*w, "step", item_kind::text, std::to_string(step)));
  return w->seal();
}

// What a whole read finds: the step, or why not.
inline result<uint64_t> check_small(target t, const which &w = {}, std::size_t rows = 12) {
  THOLE_LET(auto r, reader::open(std::move(t), w));
  const uint64_t step = r->what().body.step;
  THOLE_TRY(r->verify());
  THOLE_LET(const std::string cut, get_rows(*r, "cut", 0, rows));
  THOLE_LET(const std::string whole, get_rows(*r, "whole", 0, 33));
  if (cut != noise(rows * 20, step) || whole != noise(33, step + 1)) return fail(reason::Defect, "torn");
  return step;
}

}  // namespace thole::checkpoint::test
