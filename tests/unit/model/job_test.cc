#include "model/job.h"

#include <gtest/gtest.h>

#include "model/document.h"

namespace thole::model {
namespace {

std::string job(std::string_view role = "", std::string_view spec = "") {
  return "apiVersion: thole.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: digits}\nspec:\n  roles:\n"
         "    - name: trainer\n      members: 4\n      command: [train]\n" +
         std::string(role) + std::string(spec);
}

TEST(Job, FillsEveryDefault) {
  const document d = read_document(job("", "  checkpoint: {}\n"), "local");
  ASSERT_FALSE(d.value.is_null());
  EXPECT_EQ(d.kind, "TrainingJob");
  EXPECT_EQ(d.name, "digits");
  const json &role = d.value["spec"]["roles"][0];
  EXPECT_EQ(role["min"], 4);
  EXPECT_EQ(role["ranksPerMember"], 1);
  EXPECT_EQ(role["cpu"], "1");
  EXPECT_EQ(role["workdir"], ".");
  const json &spec = d.value["spec"];
  EXPECT_EQ(spec["checkpoint"], (json{{"store", "checkpoints"}, {"key", "digits"}, {"interval", 100}, {"keep", 3}}));
  EXPECT_EQ(spec["stores"], json::array({"checkpoints"}));
  EXPECT_EQ(spec["keys"], json::array({"digits"}));
  EXPECT_EQ(spec["recovery"]["hangTimeout"], "10m");
  EXPECT_FALSE(spec.contains("timeLimit"));
}

TEST(Job, WithoutCheckpointThereIsNoStoreAndNoKey) {
  const document d = read_document(job(), "");
  EXPECT_EQ(d.value["spec"]["stores"], json::array());
  EXPECT_EQ(d.value["spec"]["keys"], json::array());
  EXPECT_FALSE(d.value["spec"].contains("checkpoint"));
}

TEST(Job, CollectsAllErrorsInTheOrderOfTheFile) {
  const document d =
      read_document(job("      memory: 10\n      gpuz: {}\n", "  queue: on\n  gracePeriod: 5\n"), "local");
  std::vector<std::string> seen;
  for (const auto &p : d.found.all())
    if (!p.remark) seen.push_back(std::string(name_of(p.why)) + " " + p.field);
  EXPECT_EQ(seen, (std::vector<std::string>{"UnitBad spec.roles[0].memory", "FieldUnknown spec.roles[0].gpuz",
                                            "FieldWrongType spec.queue", "UnitBad spec.gracePeriod"}));
  EXPECT_TRUE(d.value.is_null());
  EXPECT_EQ(d.found.outcome().error().text(), "9:15: spec.roles[0].memory: `10` has no unit: write 10Mi or 10Gi");
}

TEST(Job, StopsCollectingAtAHundred) {
  std::string many;
  for (int i = 0; i < 300; ++i) many += "      x" + std::to_string(i) + ": 1\n";
  const document d = read_document(job(many), "");
  EXPECT_EQ(d.found.errors(), 300u);
  EXPECT_EQ(d.found.all().size(), 100u);
}

TEST(Job, SaysTheNearestWord) {
  const document d = read_document(job("      memmory: 1Gi\n"), "");
  EXPECT_NE(d.found.outcome().error().text().find("did you mean 'memory'?"), std::string_view::npos);
}

TEST(Job, TellsWhatAPlatformIgnores) {
  const std::string text = job("      image: a\n", "  queue: q\n  platforms: {slurm: {options: [--exclusive]}}\n");
  const auto ignored = [&](std::string_view platform) {
    std::vector<std::string> out;
    const document d = read_document(text, platform);
    for (const auto &p : d.found.all()) {
      EXPECT_TRUE(p.remark);
      EXPECT_EQ(p.why, reason::Ignored);
      out.push_back(p.field);
    }
    return out;
  };
  EXPECT_EQ(ignored("local"), (std::vector<std::string>{"spec.roles[0].image", "spec.queue", "spec.platforms.slurm"}));
  EXPECT_EQ(ignored(""), std::vector<std::string>{});
  EXPECT_EQ(ignored("slurm"), std::vector<std::string>{});
  EXPECT_EQ(ignored("kubernetes"), std::vector<std::string>{});
}

TEST(Job, BoundsAreTestedOnePastTheirEdge) {
  const std::pair<std::string, bool> cases[] = {
      {job("      ranksPerMember: 64\n"), true},
      {job("      ranksPerMember: 65\n"), false},
      {job("      gpus: {count: 32}\n"), true},
      {job("      gpus: {count: 33}\n"), false},
      {job("      vgpu: {memory: 1Mi, share: 1}\n"), true},
      {job("      vgpu: {memory: 1Ki}\n"), false},
      {job("", "  timeLimit: 365d\n"), true},
      {job("", "  timeLimit: 366d\n"), false},
      {job("", "  gracePeriod: 0s\n"), true},
      {job("", "  gracePeriod: 61m\n"), false},
  };
  for (const auto &[text, good] : cases) EXPECT_EQ(read_document(text, "").found.errors() == 0, good) << text;
  std::string roles;
  for (int i = 1; i < 16; ++i) roles += "    - {name: r" + std::to_string(i) + ", members: 1, command: [a]}\n";
  EXPECT_EQ(read_document(job(roles), "").found.errors(), 0u);
  EXPECT_NE(read_document(job(roles + "    - {name: last, members: 1, command: [a]}\n"), "").found.errors(), 0u);
  EXPECT_NE(read_document(job("    - {name: b, members: 65533, command: [a]}\n"), "").found.errors(), 0u);
  EXPECT_EQ(read_document(job("    - {name: b, members: 65532, command: [a]}\n"), "").found.errors(), 0u);
}

TEST(Job, ReadCanonicalWantsTheKind) {
  EXPECT_TRUE(read_canonical(job(), job_kind).has_value());
  EXPECT_EQ(read_canonical(job(), pool_kind).error().why, reason::KindUnknown);
  EXPECT_EQ(read_canonical("", job_kind).error().why, reason::FileEmpty);
}

}  // namespace
}  // namespace thole::model
