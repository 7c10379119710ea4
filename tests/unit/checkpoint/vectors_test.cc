// Known answers: RFC 5869 and Wycheproof where they are at hand, and the format's own worked example.
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "fixture.h"

namespace thole::checkpoint::test {
namespace {

std::vector<unsigned char> unhex(const std::string &text) {
  std::vector<unsigned char> out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(static_cast<unsigned char>(std::stoul(text.substr(i, 2), nullptr, 16)));
  return out;
}

// THOLE_DATA names the folder that holds vectors/.
nlohmann::json vectors(const std::string &name) {
  const char *data = std::getenv("THOLE_DATA");
  std::ifstream in(std::string(data == nullptr ? "../shared/data" : data) + "/vectors/" + name);
  return in ? nlohmann::json::parse(in) : nlohmann::json();
}

TEST(Vectors, Rfc5869) {
  const auto file = vectors("rfc5869/rfc5869.json");
  if (file.is_null()) GTEST_SKIP() << "rfc5869: set THOLE_DATA to the folder with vectors/";
  int good = 0;
  int all = 0;
  for (const auto &c : file["cases"]) {
    if (c["hash"] != "sha256") continue;
    ++all;
    auto prk = hkdf_extract(unhex(c.value("salt", "")), unhex(c["ikm"]));
    ASSERT_OK(prk);
    std::vector<unsigned char> okm(c["L"].get<std::size_t>());
    ASSERT_OK(hkdf_expand(*prk, unhex(c.value("info", "")), okm));
    good += hex(*prk) == c["prk"].get<std::string>() && hex(okm) == c["okm"].get<std::string>() ? 1 : 0;
  }
  EXPECT_EQ(good, all);
  EXPECT_GT(all, 0);
  std::printf("rfc5869: %d of %d\n", good, all);
}

TEST(Vectors, WycheproofHkdf) {
  const auto file = vectors("wycheproof/hkdf_sha256_test.json");
  if (file.is_null()) GTEST_SKIP() << "wycheproof hkdf: set THOLE_DATA to the folder with vectors/";
  int good = 0;
  int all = 0;
  for (const auto &group : file["testGroups"])
    for (const auto &t : group["tests"]) {
      ++all;
      auto prk = hkdf_extract(unhex(t["salt"]), unhex(t["ikm"]));
      ASSERT_OK(prk);
      std::vector<unsigned char> okm(t["size"].get<std::size_t>());
      const bool made = hkdf_expand(*prk, unhex(t["info"]), okm).has_value();
      good += (made && hex(okm) == t["okm"].get<std::string>()) == (t["result"] != "invalid") ? 1 : 0;
    }
  EXPECT_EQ(good, all);
  std::printf("wycheproof hkdf_sha256: %d of %d\n", good, all);
}

TEST(Vectors, WycheproofAesGcm) {
  const auto file = vectors("wycheproof/aes_gcm_test.json");
  if (file.is_null()) GTEST_SKIP() << "wycheproof aes_gcm: set THOLE_DATA to the folder with vectors/";
  int good = 0;
  int all = 0;
  int other = 0;
  for (const auto &group : file["testGroups"])
    for (const auto &t : group["tests"]) {
      if (group["keySize"] != 256 || group["ivSize"] != 96) {
        ++other;
        continue;
      }
      ++all;
      const auto message = unhex(t["msg"]);
      const auto sealed_text = unhex(t["ct"]);
      nonce_bytes nonce{};
      const auto iv = unhex(t["iv"]);
      std::copy(iv.begin(), iv.end(), nonce.begin());
      auto g = gcm::make(gcm::direction::open, unhex(t["key"]));
      ASSERT_OK(g);
      std::vector<unsigned char> plain(sealed_text.size());
      ASSERT_OK(g->begin(nonce, unhex(t["aad"])));
      ASSERT_OK(g->update(sealed_text.data(), plain.data(), sealed_text.size()));
      auto authentic = g->open(unhex(t["tag"]));
      ASSERT_OK(authentic);
      const bool valid = t["result"] == "valid";
      good += *authentic == valid && (!valid || plain == message) ? 1 : 0;
    }
  EXPECT_EQ(good, all);
  std::printf("wycheproof aes_gcm: %d of %d with 256-bit keys and 96-bit nonces; %d of other sizes are not ours\n",
              good, all, other);
}

// The numbers of docs/reference/checkpoint-format.md, "Worked example".
TEST(Vectors, WorkedExample) {
  std::array<unsigned char, 32> dek;
  for (std::size_t i = 0; i < dek.size(); ++i) dek[i] = static_cast<unsigned char>(i);
  header h;
  h.chunk_log2 = 16;
  h.part = 3;
  h.parts = 8;
  h.step = 1000;
  h.attempt = 2;
  h.run = {0x5252525252525252, 0x5252525252525252};
  h.checkpoint = {0xc0c0c0c0c0c0c0c0, 0xc0c0c0c0c0c0c0c0};
  h.salt.fill(0x5a);
  auto keys = key_tree::make(dek, h.run, h.checkpoint);
  ASSERT_OK(keys);
  auto file = container_keys::derive(*keys, encode(h));
  ASSERT_OK(file);
  auto slots = keys->mac("slots", octets_of("thole"));
  ASSERT_OK(slots);
  auto g = gcm::make(gcm::direction::seal, file->chunk.view());
  ASSERT_OK(g);
  std::vector<unsigned char> chunk(65536);
  for (std::size_t i = 0; i < chunk.size(); ++i) chunk[i] = static_cast<unsigned char>(7 * i);
  unsigned char tag[tag_size];
  ASSERT_OK(g->begin(chunk_nonce(file->base, 1), chunk_aad(file_kind::part, 1)));
  ASSERT_OK(g->update(chunk.data(), chunk.data(), chunk.size()));
  ASSERT_OK(g->seal(tag));
  const std::string lines = fmt::format(
      "header sha256 {}\nchunk key     {}\nbase nonce    {}\nheader tag    {}\nslots mac     {}\nchunk 1 tag   {}\n"
      "checkpoint id {}\n",
      hex(file->header_sha256), hex(file->chunk.view()), hex(file->base), hex(file->header_tag), hex(*slots), hex(tag),
      to_text(checkpoint_id(h.run, 2, 1000)));
  EXPECT_EQ(lines,
            "header sha256 43ce4852cce16f1ddb0557b6470012d6d67a1ba6c6d84beb99ba1dfffe51e1f6\n"
            "chunk key     b10cf7a3092307822536061702a37e6a27b23edaa666e6569c677e73da3aa351\n"
            "base nonce    164ec99bbb03a758c3e9e88a\n"
            "header tag    7c296f655ea5c89624bf191c07f1a09ea087971cecbb1c8be5d6944e25f49e98\n"
            "slots mac     3017344871e45dcffd0ab2a30b363200b604cedd1cdceee6f2f9d4682a1e1e26\n"
            "chunk 1 tag   09fd895e47bc5c892a48f9e49440b118\n"
            "checkpoint id 4c89473a-813f-87a1-8462-6565c9643ab1\n");
}

TEST(Boxes, CoverAgreesWithCountingEveryElement) {
  std::mt19937_64 random(3);
  int exact = 0;
  const int cases = 20'000;
  for (int n = 0; n < cases; ++n) {
    const std::vector<uint64_t> shape = {1 + random() % 4, 1 + random() % 4, 1 + random() % 3};
    // Half of them made by cutting, so that many are exact; the others at random.
    std::vector<box> boxes{{{0, 0, 0}, shape}};
    for (uint64_t cuts = random() % 4; cuts > 0; --cuts) {
      const std::size_t i = random() % boxes.size();
      const std::size_t d = random() % 3;
      if (boxes[i].extent[d] < 2) continue;
      box second = boxes[i];
      const uint64_t at = 1 + random() % (boxes[i].extent[d] - 1);
      boxes[i].extent[d] = at;
      second.start[d] += at;
      second.extent[d] -= at;
      boxes.push_back(second);
    }
    if (random() % 2 == 0) {
      box &b = boxes[random() % boxes.size()];
      const std::size_t d = random() % 3;
      b.start[d] = random() % shape[d];
      b.extent[d] = random() % (shape[d] - b.start[d] + 1);
    }
    std::map<std::array<uint64_t, 3>, int> count;
    for (const box &b : boxes)
      for (uint64_t x = 0; x < b.extent[0]; ++x)
        for (uint64_t y = 0; y < b.extent[1]; ++y)
          for (uint64_t z = 0; z < b.extent[2]; ++z) ++count[{b.start[0] + x, b.start[1] + y, b.start[2] + z}];
    bool once = count.size() == shape[0] * shape[1] * shape[2];
    for (const auto &[at, times] : count) once = once && times == 1;
    auto covered = cover(boxes, shape);
    ASSERT_OK(covered);
    ASSERT_EQ(*covered == covering::exact, once);
    exact += once ? 1 : 0;
  }
  std::printf("coverings: %d cases agree with counting, %d of them exact\n", cases, exact);
  EXPECT_GT(exact, 1000);
  EXPECT_LT(exact, cases - 1000);
}

}  // namespace
}  // namespace thole::checkpoint::test
