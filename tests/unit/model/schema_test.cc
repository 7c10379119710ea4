#include "model/schema.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "model/document.h"

namespace thole::model {
namespace {

std::string between(const std::string &text, const std::string &from, const std::string &to) {
  const std::size_t a = text.find(from);
  if (a == text.npos) return "";
  const std::size_t begin = a + from.size();
  return text.substr(begin, text.find(to, begin) - begin);
}

// THOLE_WRITE_DOCS=1 writes the tables into the page instead.
TEST(Schema, ReferencePageHasTheTablesOfTheDescriptions) {
  const std::string path = std::string(THOLE_SOURCE) + "/docs/reference/job-file.md";
  auto read = read_file(path, std::size_t{1} << 20);
  ASSERT_TRUE(read.has_value());
  std::string page = *read;
  for (std::string_view kind : {job_kind, pool_kind}) {
    const std::string begin = "<!-- fields of " + std::string(kind) + " -->\n";
    const std::string table = field_table(*description_of(kind));
    const std::string there = between(page, begin, "<!-- end -->");
    if (getenv("THOLE_WRITE_DOCS") != nullptr) {
      const std::size_t at = page.find(begin);
      ASSERT_NE(at, page.npos);
      page.replace(at + begin.size(), there.size(), table);
      ASSERT_TRUE(replace_file(path, page, 0644).has_value());
    } else {
      EXPECT_EQ(there, table) << "run unit_model with THOLE_WRITE_DOCS=1";
    }
  }
}

// What Kubernetes calls structural: no $ref, no additionalProperties beside properties, a type (or the permission to
// have none) everywhere, no default inside a list of alternatives.
std::size_t check_structural(const json &s, const std::string &path) {
  std::size_t seen = 1;
  EXPECT_FALSE(s.contains("$ref")) << path;
  EXPECT_TRUE(s.contains("type") || s.contains("x-kubernetes-preserve-unknown-fields")) << path;
  EXPECT_FALSE(s.contains("properties") && s.contains("additionalProperties")) << path;
  if (s.contains("properties"))
    for (auto it = s["properties"].begin(); it != s["properties"].end(); ++it)
      seen += check_structural(*it, path + "." + it.key());
  if (s.contains("items")) seen += check_structural(s["items"], path + "[]");
  if (s.contains("additionalProperties")) seen += check_structural(s["additionalProperties"], path + ".*");
  return seen;
}
TEST(Schema, IsStructural) {
  for (std::string_view kind : {job_kind, pool_kind}) {
    const json s = json_schema(*description_of(kind));
    std::printf("%s: %zu schemas\n", std::string(kind).c_str(), check_structural(s, std::string(kind)));
    EXPECT_EQ(s["properties"]["metadata"]["properties"]["name"]["maxLength"], 52);
  }
  EXPECT_EQ(description_of("Pod"), nullptr);
}

void check_described(const field &f, const std::string &path) {
  for (const field &part : f.fields) {
    if (part.what == type::dropped) continue;
    const std::string at = path + "." + std::string(part.name);
    EXPECT_FALSE(part.doc.empty()) << at;
    EXPECT_TRUE(part.doc.ends_with('.')) << at;
    EXPECT_FALSE(part.required && (!part.fallback.empty() || !part.computed.empty())) << at;
    check_described(part, at);
  }
}
TEST(Schema, EveryFieldIsDescribed) {
  check_described(*description_of(job_kind), "");
  check_described(*description_of(pool_kind), "");
}

TEST(Schema, CanonicalTextIsReadTheSame) {
  const json odd = {
      {"a", "tab\t quote\" back\\ nl\n del\x7F nel\xC2\x85 ls\xE2\x80\xA8 ps\xE2\x80\xA9 bom\xEF\xBB\xBF é 日 😀"},
      {"b", json::array({1, -1, 0.5, true, nullptr, "no", ""})},
      {"c", json::object()},
      {"d", 1e20}};
  const std::string text = canonical_text(odd);
  EXPECT_EQ(json::parse(text), odd);
  yaml::problems found;
  const auto root = yaml::read(text, found);
  ASSERT_TRUE(root) << found.all()[0].text();
  EXPECT_EQ(root->find("a")->text, odd["a"].get<std::string>());
  EXPECT_TRUE(root->find("b")->children[5].quoted);
}

TEST(Schema, NamesAreAsKubernetesHasThem) {
  EXPECT_EQ(name_problem("a", 52), nullptr);
  EXPECT_EQ(name_problem("0-a", 52), nullptr);
  EXPECT_EQ(name_problem(std::string(52, 'a'), 52), nullptr);
  for (std::string_view bad : {"", "-a", "a-", "A", "a_b", "a.b", "é"})
    EXPECT_NE(name_problem(bad, 52), nullptr) << bad;
  EXPECT_NE(name_problem(std::string(53, 'a'), 52), nullptr);
}

}  // namespace
}  // namespace thole::model
