#include "partition/record.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/file.h"

namespace thole::partition {
namespace {

record sample() {
  record r;
  r.gang = *parse_id("6f9619ff-8b86-4011-b42d-00c04fc964ff");
  r.attempt = 2, r.generation = 5, r.member = 3;
  r.node = "node-a", r.role = "worker";
  r.devices = {
      {"GPU-7f2f9d1e-2b1c-4a0e-9d52-0b7f0e6a1c11", THOLE_KIND_VGPU, 100, 10240, "", {}, backend::none},
      {"SIM-0", THOLE_KIND_WHOLE, 1000, 98304, "", {}, backend::simulated},
      {"MIG-11111111-2222-3333-4444-555555555555", THOLE_KIND_MIG, 142, 18000, "1g.18gb+me", {3, 1}, backend::none}};
  return r;
}

void expect_equal(const record &a, const record &b) {
  EXPECT_EQ(a.gang, b.gang);
  EXPECT_EQ(a.attempt, b.attempt);
  EXPECT_EQ(a.generation, b.generation);
  EXPECT_EQ(a.node, b.node);
  EXPECT_EQ(a.role, b.role);
  EXPECT_EQ(a.member, b.member);
  ASSERT_EQ(a.devices.size(), b.devices.size());
  for (std::size_t i = 0; i < a.devices.size(); ++i) {
    EXPECT_EQ(a.devices[i].uuid, b.devices[i].uuid);
    EXPECT_EQ(a.devices[i].kind, b.devices[i].kind);
    EXPECT_EQ(a.devices[i].share_milli, b.devices[i].share_milli);
    EXPECT_EQ(a.devices[i].memory_mib, b.devices[i].memory_mib);
    EXPECT_EQ(a.devices[i].mig_profile, b.devices[i].mig_profile);
    EXPECT_EQ(a.devices[i].mig.start, b.devices[i].mig.start);
    EXPECT_EQ(a.devices[i].mig.size, b.devices[i].mig.size);
    EXPECT_EQ(a.devices[i].held_by, b.devices[i].held_by);
  }
}

uint32_t crc32(std::string_view text) {
  uint32_t crc = ~0u;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
  }
  return ~crc;
}

// A record whose checksum is right, whatever stands in it.
std::string sealed(const std::string &body) {
  char line[32];
  snprintf(line, sizeof line, "checksum %08x\n", crc32(body));
  return body + line;
}

std::string body_of(const std::string &text) {
  return text.substr(0, text.size() - 18);
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Record, RoundTrip) {
  auto text = write(sample());
  ASSERT_TRUE(text) << text.error().text();
  auto back = read(*text);
  ASSERT_TRUE(back) << back.error().text();
  expect_equal(sample(), *back);
  EXPECT_EQ(*write(*back), *text);
  record bare = sample();
  bare.devices.clear();
  bare.node = "a b \xC3\xA9";
  bare.generation = UINT64_MAX;
  bare.member = UINT32_MAX;
  expect_equal(bare, *read(*write(bare)));
}

TEST(Record, RandomRoundTrips) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    record r = sample();
    r.attempt = 1 + random() % 1000;
    r.generation = random();
    r.devices.resize(random() % 4);
    while (random() % 3 != 0 && r.devices.size() < most_devices) r.devices.push_back(sample().devices[random() % 3]);
    expect_equal(r, *read(*write(r)));
  }
}

TEST(Record, EverySingleBitFlipIsRefused) {
  const std::string text = *write(sample());
  std::size_t refused = 0;
  for (std::size_t i = 0; i < text.size() * 8; ++i) {
    std::string other = text;
    other[i / 8] = static_cast<char>(other[i / 8] ^ 1 << i % 8);
    if (const auto r = read(other); !r && r.error().why == reason::RecordDamaged) ++refused;
  }
  EXPECT_EQ(refused, text.size() * 8);
  std::printf("%zu of %zu bit flips refused\n", refused, text.size() * 8);
}

TEST(Record, EverySingleByteChangeIsRefused) {
  const std::string text = *write(sample());
  std::size_t refused = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    for (int c = 1; c < 256; ++c) {
      std::string other = text;
      other[i] = static_cast<char>(static_cast<unsigned char>(other[i]) ^ c);
      if (!read(other)) ++refused;
    }
  EXPECT_EQ(refused, text.size() * 255);
  std::printf("%zu of %zu byte changes refused\n", refused, text.size() * 255);
}

TEST(Record, EveryCutIsRefusedAndSoIsWhatFollows) {
  const std::string text = *write(sample());
  for (std::size_t n = 0; n < text.size(); ++n) EXPECT_FALSE(read(text.substr(0, n))) << n;
  EXPECT_FALSE(read(text + "\n"));
  EXPECT_FALSE(read(text + text));
  EXPECT_FALSE(read(std::string(most_record + 1, 'x')));
}

TEST(Record, ANewerOneIsToldFromADamagedOne) {
  const std::string body = body_of(*write(sample()));
  EXPECT_EQ(read(sealed(replaced(body, "record 1", "record 2"))).error().why, reason::RecordNewer);
  EXPECT_EQ(read(sealed("thole-record 7\nwhat comes\n")).error().why, reason::RecordNewer);
  EXPECT_EQ(read(replaced(*write(sample()), "record 1", "record 2")).error().why, reason::RecordDamaged);
  EXPECT_EQ(read(sealed(replaced(body, "record 1", "record 0"))).error().why, reason::RecordDamaged);
  EXPECT_EQ(read(sealed(replaced(body, "record 1", "record 01"))).error().why, reason::RecordDamaged);
}

// With a right checksum: a writer with a defect, or somebody who wants to confuse.
TEST(Record, IsStrict) {
  const std::string body = body_of(*write(sample()));
  const std::pair<const char *, const char *> changes[] = {
      {"attempt 2", "attempt 0"},
      {"attempt 2", "attempt 02"},
      {"attempt 2", "attempt -2"},
      {"attempt 2", "attempt  2"},
      {"attempt 2", "attempt 18446744073709551616"},
      {"attempt 2\n", ""},
      {"attempt 2\n", "attempt 2\nattempt 2\n"},
      {"member 3", "member 4294967296"},
      {"node node-a", "node "},
      {"node node-a", "node  a"},
      {"node node-a", "node a\r"},
      {"node node-a", "node \xFF"},
      {"gang 6f", "gang 6F"},
      {"gang 6f9619ff-8b86-4011-b42d-00c04fc964ff", "gang 00000000-0000-0000-0000-000000000000"},
      {" vgpu ", " part "},
      {" vgpu ", "  vgpu "},
      {" none - 0 0", " none - 0 0 "},
      {" none - 0 0", " none - 0"},
      {" none - 0 0", " none - 0 1"},
      {" none - 0 0", " none 1g 0 1"},
      {" none - 0 0", " some - 0 0"},
      {" 1000 simulated", " 1001 simulated"},
      {"1g.18gb+me 3 1", "1g.18gb+me 3 0"},
      {"1g.18gb+me", "-"},
      {" 10240 ", " 1099511627777 "},
      {"device SIM-0", "Device SIM-0"},
      {"device SIM-0", "extra SIM-0"}};
  std::size_t refused = 0;
  for (const auto &[from, to] : changes) {
    const auto r = read(sealed(replaced(body, from, to)));
    EXPECT_FALSE(r) << from << " -> " << to;
    if (!r && r.error().why == reason::RecordDamaged) ++refused;
  }
  EXPECT_EQ(refused, std::size(changes));
  std::printf("%zu of %zu records with a right checksum and a wrong line refused\n", refused, std::size(changes));
  EXPECT_TRUE(read(sealed(body)));
}

TEST(Record, BoundsAreExact) {
  record r = sample();
  r.node.assign(most_name, 'n');
  r.devices[0].uuid.assign(most_uuid, 'u');
  r.devices[2].mig_profile.assign(most_profile, 'p');
  r.devices[1].memory_mib = most_memory_mib;
  ASSERT_TRUE(write(r));
  expect_equal(r, *read(*write(r)));
  const auto refuses = [](auto change) {
    record other = sample();
    change(other);
    const auto text = write(other);
    return !text && text.error().why == reason::PlanBad;
  };
  EXPECT_TRUE(refuses([](record &o) { o.node.assign(most_name + 1, 'n'); }));
  EXPECT_TRUE(refuses([](record &o) { o.node = "a\nattempt 9"; }));
  EXPECT_TRUE(refuses([](record &o) { o.devices[0].uuid.assign(most_uuid + 1, 'u'); }));
  EXPECT_TRUE(refuses([](record &o) { o.devices[0].uuid = "GPU-1 whole"; }));
  EXPECT_TRUE(refuses([](record &o) { o.devices[2].mig_profile.assign(most_profile + 1, 'p'); }));
  EXPECT_TRUE(refuses([](record &o) { o.devices[1].memory_mib = most_memory_mib + 1; }));
  EXPECT_TRUE(refuses([](record &o) { o.devices[1].share_milli = 1001; }));
  EXPECT_TRUE(refuses([](record &o) { o.gang = {}; }));
  record many = sample();
  many.devices.assign(most_devices, sample().devices[0]);
  ASSERT_TRUE(write(many));
  expect_equal(many, *read(*write(many)));
  many.devices.push_back(many.devices[0]);
  EXPECT_FALSE(write(many));
}

// The page's example is a record, and its program reads it and prints what the page says.
TEST(Record, ThePageIsTrue) {
  const char *root = std::getenv("THOLE_ROOT");
  if (root == nullptr) GTEST_SKIP() << "THOLE_ROOT does not say where the sources are";
  const std::string page = *read_file(std::string(root) + "/docs/reference/allocation-record.md", 1 << 20);
  std::vector<std::string> blocks;
  for (std::size_t at = page.find("\n```"); at != std::string::npos; at = page.find("\n```", at)) {
    const std::size_t begin = page.find('\n', at + 1) + 1;
    const std::size_t end = page.find("\n```", begin);
    blocks.push_back(page.substr(begin, end - begin + 1));
    at = end + 4;
  }
  ASSERT_EQ(blocks.size(), 3u);
  const auto r = read(blocks[0]);
  ASSERT_TRUE(r) << r.error().text();
  EXPECT_EQ(*write(*r), blocks[0]);
  std::string folder = testing::TempDir() + "thole-record-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  ASSERT_TRUE(replace_file(folder + "/record", blocks[0]));
  ASSERT_TRUE(replace_file(folder + "/cut", blocks[0].substr(0, blocks[0].size() - 1)));
  ASSERT_TRUE(replace_file(folder + "/reader.c", blocks[1]));
  const std::string in = "cd '" + folder + "' && ";
  ASSERT_EQ(std::system((in + "cc -std=c99 -Wall -Wextra -Werror -O1 reader.c -o reader").c_str()), 0);
  EXPECT_EQ(std::system((in + "./reader record > out").c_str()), 0);
  EXPECT_EQ(*read_file(folder + "/out", 4096), blocks[2]);
  EXPECT_NE(std::system((in + "./reader cut 2> /dev/null").c_str()), 0);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace thole::partition
