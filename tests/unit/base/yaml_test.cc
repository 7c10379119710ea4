#include "base/yaml.h"

#include <gtest/gtest.h>

#include <chrono>

#include "base/yaml_scalar.h"

namespace thole::yaml {
namespace {

struct answer {
  std::optional<node> root;
  problems found;
};
answer parse(std::string_view text, const limits &bounds = {}) {
  answer a;
  a.root = read(text, a.found, bounds);
  EXPECT_EQ(a.root.has_value(), a.found.errors() == 0) << text.substr(0, 80);
  return a;
}
const problem &only(const answer &a) {
  static const problem none{};
  EXPECT_EQ(a.found.all().size(), 1u);
  return a.found.all().empty() ? none : a.found.all()[0];
}
// "Reason line:column", as the corpus of bad files writes it.
std::string verdict(std::string_view text, const limits &bounds = {}) {
  const answer a = parse(text, bounds);
  if (a.root) return "good";
  const problem &p = only(a);
  EXPECT_FALSE(p.message.empty());
  return std::string(thole::name_of(p.why)) + " " + std::to_string(p.at.line) + ":" + std::to_string(p.at.column);
}

TEST(Yaml, BuildsATreeInTheOrderOfTheFile) {
  const answer a = parse("b: 1\na:\n  - x\n  - {k: \"2\", l: null}\n");
  ASSERT_TRUE(a.root);
  ASSERT_TRUE(a.root->is_map());
  ASSERT_EQ(a.root->children.size(), 2u);
  EXPECT_EQ(a.root->children[0].key, "b");
  EXPECT_EQ(a.root->children[0].what, kind::integer);
  EXPECT_EQ(a.root->children[0].at, (place{1, 4}));
  const node &seq = a.root->children[1];
  EXPECT_EQ(seq.key_at, (place{2, 1}));
  ASSERT_EQ(seq.children.size(), 2u);
  EXPECT_EQ(seq.children[0].text, "x");
  EXPECT_EQ(seq.children[0].at, (place{3, 5}));
  const node *k = seq.children[1].find("k");
  ASSERT_NE(k, nullptr);
  EXPECT_TRUE(k->quoted);
  EXPECT_EQ(k->what, kind::string);
  EXPECT_EQ(seq.children[1].find("l")->what, kind::null);
  EXPECT_EQ(seq.children[1].find("nothing"), nullptr);
}

TEST(Yaml, CountsColumnsInCharacters) {
  const answer a = parse("{\"größe\": \"日本\", b: 1}");
  ASSERT_TRUE(a.root);
  EXPECT_EQ(a.root->find("b")->at, (place{1, 20}));
  EXPECT_EQ(a.root->find("größe")->at, (place{1, 11}));
}

TEST(Yaml, AcceptsBomAndCrlfWithTheSameResult) {
  const answer plain = parse("a: 1\nb:\n  - c\n");
  const answer other = parse(
      "\xEF\xBB\xBF"
      "a: 1\r\nb:\r\n  - c\r\n");
  ASSERT_TRUE(plain.root && other.root);
  EXPECT_EQ(other.root->children[0].text, "1");
  EXPECT_EQ(other.root->children[1].children[0].text, "c");
  EXPECT_EQ(other.root->children[1].children[0].at, plain.root->children[1].children[0].at);
}

TEST(Yaml, AcceptsJsonWithTabs) {
  EXPECT_EQ(verdict("{\n\t\"a\": [1,\n\t\t2],\n\t\"b\":\"c\"\n}\n"), "good");
}

TEST(Yaml, KeepsTabsInsideBlockScalars) {
  const answer a = parse("script: |\n  if x:\n  \techo\n");
  ASSERT_TRUE(a.root);
  EXPECT_EQ(a.root->find("script")->text, "if x:\n\techo\n");
}

TEST(Yaml, RefusesTraps) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"", "FileEmpty 1:1"},
      {" \n\n", "FileEmpty 1:1"},
      {"# only a comment\n", "FileEmpty 1:1"},
      {"\xEF\xBB\xBF", "FileEmpty 1:1"},
      {"a: &x 1\nb: *x\n", "YamlRefused 1:4"},
      {"a: *x\n", "YamlRefused 1:4"},
      {"a: &x {b: 1}\n", "YamlRefused 1:4"},
      {"a: !!str 1\n", "YamlRefused 1:4"},
      {"a: ! 1\n", "YamlRefused 1:4"},
      {"a: !thing {}\n", "YamlRefused 1:4"},
      {"%YAML 1.1\n---\na: 1\n", "YamlRefused 1:1"},
      {"a: 1\nb: 2\na: 3\n", "KeyDuplicate 3:1"},
      {"{a: 1, \"a\": 2}\n", "KeyDuplicate 1:8"},
      {"a: 1\n---\nb: 2\n", "FileManyDocuments 2:1"},
      {"a: 1\n---\n", "FileManyDocuments 2:1"},
      {"[a]\nb\n", "FileNotYaml 2:1"},
      {"a: \xFF\n", "TextNotUtf8 1:4"},
      {"a: \xC0\x80\n", "TextNotUtf8 1:4"},
      {std::string_view("a: x\0y\n", 7), "FileNotYaml 1:5"},
      {"a: \"x\\0y\"\n", "FileNotYaml 1:4"},
      {"a: x\x04y: 1\n", "FileNotYaml 1:5"},
      {"a: 1\rb: 2\n", "FileNotYaml 1:5"},
      {"a: x\xE2\x80\xA8y\n", "FileNotYaml 1:5"},
      {"a:\n\tb: 1\n", "FileNotYaml 2:1"},
      {"a:\n  b: 1\n \tc: 1\n", "FileNotYaml 3:2"},
      {"a: b: c\n", "FileNotYaml 1:5"},
      {"a: \"never closed\n", "FileNotYaml 1:4"},
      {"a: 'never ''closed\n", "FileNotYaml 1:4"},
      {"a: \"never closed\\\"\n", "FileNotYaml 1:4"},
      {"a: [1, 2\n", "FileNotYaml 1:8"},
      {"[a: b]\n", "FileNotYaml 1:2"},
      {"no: 1\n", "YamlRefused 1:1"},
      {"1: a\n", "YamlRefused 1:1"},
      {"<<: {a: 1}\n", "YamlRefused 1:1"},
      {"? [a]\n: 1\n", "YamlRefused 1:3"},
  };
  std::size_t refused = 0;
  for (const auto &[text, expected] : cases) {
    EXPECT_EQ(verdict(text), expected) << text;
    refused += verdict(text) != "good";
  }
  std::printf("refused %zu of %zu traps\n", refused, std::size(cases));
}

TEST(Yaml, HoldsItsBounds) {
  const limits few{.bytes = 40, .depth = 3, .nodes = 5};
  EXPECT_EQ(verdict(std::string(36, '#') + "\n{}\n", few), "good");
  EXPECT_EQ(verdict(std::string(37, '#') + "\n{}\n", few), "YamlRefused 1:1");
  EXPECT_EQ(verdict("[[[1]]]", few), "good");
  EXPECT_EQ(verdict("[[[[1]]]]", few), "YamlRefused 1:4");
  EXPECT_EQ(verdict("[1, 2, 3, 4]", few), "good");
  EXPECT_EQ(verdict("[1, 2, 3, 4, 5]", few), "YamlRefused 1:14");
}

// None of these may take long, or much memory.
TEST(Yaml, AnswersHostileTextSoon) {
  std::string laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'i'; ++c)
    laughs +=
        std::string(1, c) + ": &" + c + " [*" + static_cast<char>(c - 1) + ",*" + static_cast<char>(c - 1) + "]\n";
  const std::size_t most = limits{}.bytes;
  std::string long_line = "{\"a\":[";
  while (long_line.size() < most - 100) long_line += "1,2,3333333333333333333333333333333333333333333333333333,";
  long_line += "0]}";
  const std::string hostile[] = {std::string(200'000, '['),
                                 std::string(200'000, '{'),
                                 std::string(most, '['),
                                 laughs,
                                 long_line,
                                 std::string(most, '-'),
                                 std::string(most, '"'),
                                 std::string(most, ':'),
                                 std::string(most, '?'),
                                 std::string(most, ' ')};
  for (const std::string &text : hostile) {
    const auto start = std::chrono::steady_clock::now();
    verdict(text);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_LT(took.count(), 20) << text.substr(0, 20);
    std::printf("%.3f s for %zu bytes of %s...\n", took.count(), text.size(), text.substr(0, 8).c_str());
  }
  EXPECT_EQ(verdict(std::string(200'000, '[')), "YamlRefused 1:1");
  EXPECT_EQ(verdict(std::string(64, '[') + std::string(64, ']')), "good");
  EXPECT_EQ(verdict(std::string(65, '[') + std::string(65, ']')), "YamlRefused 1:65");
  EXPECT_EQ(verdict(laughs), "YamlRefused 1:4");
}

TEST(Yaml, ScalarsMeanWhatJsonMeans) {
  const std::tuple<std::string_view, kind, bool> cases[] = {
      {"true", kind::boolean, false},  {"True", kind::string, true},       {"no", kind::string, true},
      {"on", kind::string, true},      {"y", kind::string, true},          {"null", kind::null, false},
      {"~", kind::string, true},       {"0", kind::integer, false},        {"-7", kind::integer, false},
      {"010", kind::string, true},     {"0x1F", kind::string, true},       {"0o17", kind::string, true},
      {"1_000", kind::string, true},   {"1:30", kind::string, true},       {"+1", kind::string, true},
      {".5", kind::string, true},      {"1.", kind::string, true},         {"0.25", kind::number, false},
      {"1e3", kind::number, true},     {"1.5e+3", kind::number, true},     {".inf", kind::string, true},
      {"-.INF", kind::string, true},   {"2024-01-31", kind::string, true}, {"<<", kind::string, true},
      {"10Gi", kind::string, false},   {"1h30m", kind::string, false},     {"a", kind::string, false},
      {"-", kind::string, false},      {"1.2.3", kind::string, true},      {"10.0.0.1:80", kind::string, true},
      {"no-way", kind::string, false},
  };
  for (const auto &[text, what, quotable] : cases) {
    EXPECT_EQ(of_plain(text).what, what) << text;
    EXPECT_EQ(of_plain(text).quotable, quotable) << text;
  }
}

TEST(Object, CollectsEveryError) {
  const answer a = parse("id: no\ncuont: 3\nflag: yes\nlist: [a, 1]\nnumber: 1e3\nempty:\n");
  ASSERT_TRUE(a.root);
  problems found;
  object o(*a.root, "", found);
  o.text("id");
  o.text("version");
  EXPECT_EQ(o.integer("count", 1, 5, 2), 2);
  o.boolean("flag");
  o.texts("list");
  o.integer("number", 0, 5000);
  o.text("empty");
  o.finish();
  found.sort();
  std::vector<std::string> seen;
  for (const problem &p : found.all()) seen.push_back(p.text());
  const std::vector<std::string> expected = {
      "1:1: version: is missing",
      "1:5: id: a string is expected; `no` is not one to every reader of YAML: write \"no\" with quotes",
      "2:1: cuont: there is no such field; did you mean 'count'?",
      "3:7: flag: true or false is expected, here is `yes`",
      "4:11: list[1]: a string is expected; `1` is not one to every reader of YAML: write \"1\" with quotes",
      "5:9: number: a whole number from 0 to 5000 is expected, written in plain decimal digits; here is `1e3`",
      "6:1: empty: a string is expected, here is nothing",
  };
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(std::string(found.outcome().error().text()), expected[0]);
}

TEST(Object, ReadsWhatIsThere) {
  const answer a = parse("id: x\ncount: 5\nflag: true\nlist: [a, \"1\"]\nitems: [{k: 1}, {k: 2}]\nother: {}\n");
  ASSERT_TRUE(a.root);
  problems found;
  object o(*a.root, "", found);
  EXPECT_EQ(o.text("id"), "x");
  EXPECT_EQ(o.integer("count", 1, 5), 5);
  EXPECT_TRUE(o.boolean("flag"));
  EXPECT_EQ(o.texts("list"), (std::vector<std::string>{"a", "1"}));
  int64_t sum = 0;
  o.each("items", [&](const node &n, std::string path) {
    object item(n, std::move(path), found);
    sum += item.integer("k", 0, 9);
    item.finish();
  });
  EXPECT_EQ(sum, 3);
  o.ignore({"other"});
  o.finish();
  EXPECT_EQ(found.all().size(), 0u);
}

TEST(Problems, KeepsAHundredErrors) {
  problems found;
  for (uint32_t i = 1; i <= 150; ++i) found.refuse(reason::FieldBad, {i, 1}, "f", "number {}", i);
  EXPECT_EQ(found.errors(), 150u);
  EXPECT_EQ(found.all().size(), problems::most);
  EXPECT_FALSE(found.outcome().has_value());
}

}  // namespace
}  // namespace thole::yaml
