// Every file below tests/files: the bad ones say what they expect in their first line.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "model/document.h"

namespace thole::model {
namespace {

namespace fs = std::filesystem;
const fs::path folder = fs::path(THOLE_SOURCE) / "tests/files";

std::vector<fs::path> files_of(const char *name) {
  std::vector<fs::path> out;
  for (const auto &entry : fs::directory_iterator(folder / name)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}
std::string content(const fs::path &path) {
  auto text = read_file(path.string(), std::size_t{1} << 21);
  EXPECT_TRUE(text.has_value()) << path;
  return text.value_or("");
}
std::string shown(const yaml::problem &p) {
  return std::string(name_of(p.why)) + " " + std::to_string(p.at.line) + ":" + std::to_string(p.at.column);
}

TEST(Corpus, RefusesBadFilesAtTheirPlace) {
  std::size_t refused = 0;
  const auto files = files_of("bad");
  for (const fs::path &path : files) {
    const std::string text = content(path);
    constexpr std::string_view mark = "# expect: ";
    ASSERT_TRUE(text.starts_with(mark)) << path;
    const std::string expected = text.substr(mark.size(), text.find_first_of("\r\n") - mark.size());
    const document d = read_document(text, "local");
    std::string first = "good";
    for (const yaml::problem &p : d.found.all())
      if (!p.remark && first == "good") {
        first = shown(p);
        EXPECT_GT(p.message.size(), 8u) << path;
      }
    EXPECT_EQ(first, expected) << path;
    EXPECT_TRUE(d.value.is_null()) << path;
    refused += first == expected;
  }
  std::printf("%zu of %zu bad files are refused at their place\n", refused, files.size());
  EXPECT_GE(files.size(), 94u);
}

// Not a file of the corpus, so that every file of the tree can be read by people.
TEST(Corpus, ANulIsNoYaml) {
  std::string text = content(folder / "good/smallest.yaml");
  text.insert(text.find('\n', text.find("members:")), 1, '\0');
  const document d = read_document(text, "local");
  ASSERT_EQ(d.found.errors(), 1u);
  EXPECT_EQ(d.found.all()[0].why, reason::FileNotYaml);
  EXPECT_EQ(d.found.all()[0].at.line, 7u);
  EXPECT_TRUE(d.value.is_null());
}

TEST(Corpus, ReadsGoodFilesAndReadsThemAgain) {
  std::size_t read = 0;
  const auto files = files_of("good");
  for (const fs::path &path : files) {
    const document d = read_document(content(path), "local");
    EXPECT_EQ(d.found.errors(), 0u) << path << ": " << d.found.outcome().error().text();
    if (d.value.is_null()) continue;
    const std::string canonical = canonical_text(d.value);
    const document again = read_document(canonical, "");
    EXPECT_EQ(again.found.all().size(), 0u) << path << ": " << again.found.all()[0].text();
    EXPECT_EQ(canonical_text(again.value), canonical) << path;
    EXPECT_EQ(json::parse(canonical), d.value) << path;
    ++read;
  }
  std::printf("%zu of %zu good files are read, and read again the same\n", read, files.size());
}

TEST(Corpus, BomAndCrlfChangeNothing) {
  const std::string plain = canonical_text(read_document(content(folder / "good/smallest.yaml"), "").value);
  EXPECT_EQ(canonical_text(read_document(content(folder / "good/crlf.yaml"), "").value), plain);
  EXPECT_EQ(canonical_text(read_document(content(folder / "good/bom.yaml"), "").value), plain);
}

// scalars.json has what every reader of JSON-compatible YAML makes of scalars.yaml; quotable words are listed apart.
json value_of(const yaml::node &n, bool &quotable) {
  quotable = n.quotable;
  if (n.what == yaml::kind::null) return nullptr;
  if (n.what == yaml::kind::boolean || n.what == yaml::kind::integer || n.what == yaml::kind::number)
    return json::parse(n.text);
  return n.text;
}
TEST(Corpus, ScalarsMeanWhatTheJsonBesideThemSays) {
  yaml::problems found;
  const auto root = yaml::read(content(folder / "scalars.yaml"), found);
  ASSERT_TRUE(root) << found.all()[0].text();
  const json expected = json::parse(content(folder / "scalars.json"));
  std::size_t same = 0;
  for (const char *part : {"same", "refused"}) {
    const yaml::node *list = root->find(part);
    ASSERT_NE(list, nullptr);
    ASSERT_EQ(list->children.size(), expected[part].size());
    for (std::size_t i = 0; i < list->children.size(); ++i) {
      bool quotable = false;
      EXPECT_EQ(value_of(list->children[i], quotable), expected[part][i]) << list->children[i].text;
      EXPECT_EQ(quotable, std::string_view(part) == "refused") << list->children[i].text;
      ++same;
    }
  }
  std::printf("%zu of %zu scalars\n", same, expected["same"].size() + expected["refused"].size());
}

TEST(Corpus, SamplesAreWhatTheySay) {
  const fs::path samples = fs::path(THOLE_SOURCE) / "samples/digits";
  EXPECT_FALSE(read_document(content(samples / "job.yaml"), "local").value.is_null());
  EXPECT_FALSE(read_document(content(samples / "pool.yaml"), "local").value.is_null());
  const document seed = read_document(content(samples / "pool-seed.yaml"), "local");
  ASSERT_EQ(seed.found.errors(), 1u);
  ASSERT_FALSE(seed.found.outcome().has_value());
  EXPECT_EQ(seed.found.outcome().error().why, reason::PoolDoesNotFit);
  EXPECT_NE(seed.found.outcome().error().text().find("7 x 10Gi fit, or 8 x 9Gi"), std::string_view::npos);
}

}  // namespace
}  // namespace thole::model
