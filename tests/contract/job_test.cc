// The job service from outside: files become documents, documents a request and nodes, and those a plan. Its calls are
// pure, so most of them are made with no core at all.
#include <algorithm>
#include <fstream>
#include <iterator>

#include "host.h"

namespace {

using namespace host;
namespace fs = std::filesystem;

const fs::path checkout = THOLE_SOURCE;

std::string content(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

// What read says of a text; the notes lie in `memory`.
struct reading {
  lent memory;
  thole_document document = sized<thole_document>();
  thole_status status = sized<thole_status>();
  thole_code code;
  explicit reading(const std::string &file, const std::string &platform = "local") {
    code = root()->job->read({0}, str(file), str(platform), &document, &memory.room, &status);
  }
  std::string json() const { return text(document.json); }
  const thole_note *first_error() const {
    for (uint64_t i = 0; i < document.notes.count; ++i)
      if (const auto *note = THOLE_AT(document.notes, thole_note, i); note->error != 0) return note;
    return nullptr;
  }
};

std::vector<fs::path> files_of(const char *folder) {
  std::vector<fs::path> out;
  for (const auto &entry : fs::directory_iterator(checkout / "tests/files" / folder)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

TEST(job, reads_the_samples) {
  const reading job(content(checkout / "samples/digits/job.yaml"));
  ASSERT_EQ(job.code, THOLE_OK) << job.status.message;
  EXPECT_EQ(text(job.document.kind), "TrainingJob");
  EXPECT_EQ(text(job.document.name), "digits");
  EXPECT_EQ(job.first_error(), nullptr);
  const reading pool(content(checkout / "samples/digits/pool.yaml"));
  ASSERT_EQ(pool.code, THOLE_OK) << pool.status.message;
  EXPECT_EQ(text(pool.document.kind), "NodePool");
  // The seed's pool does not fit, and says what would.
  const reading seed(content(checkout / "samples/digits/pool-seed.yaml"));
  EXPECT_EQ(seed.code, THOLE_INVALID) << seed.status.message;
  EXPECT_STREQ(seed.status.reason, "PoolDoesNotFit");
  EXPECT_NE(std::string(seed.status.message).find("7 x 10Gi fit, or 8 x 9Gi"), std::string::npos);
}

TEST(job, canonical_text_is_read_again_the_same) {
  std::size_t same = 0;
  const auto files = files_of("good");
  for (const auto &path : files) {
    const reading once(content(path));
    ASSERT_EQ(once.code, THOLE_OK) << path << ": " << once.status.message;
    const reading again(once.json());
    EXPECT_EQ(again.json(), once.json()) << path;
    same += again.json() == once.json();
  }
  std::printf("%zu of %zu good files\n", same, files.size());
}

// `# expect: Reason line:column`, the first line of each bad file.
TEST(job, every_bad_file_gives_its_reason_and_its_place) {
  std::size_t right = 0;
  const auto files = files_of("bad");
  for (const auto &path : files) {
    const std::string file = content(path);
    const std::size_t from = std::string("# expect: ").size();
    const std::string expected = file.substr(from, file.find_first_of("\r\n") - from);
    const reading bad(file);
    ASSERT_NE(bad.code, THOLE_OK) << path;
    EXPECT_EQ(bad.document.json.len, 0u) << path;
    const thole_note *note = bad.first_error();
    ASSERT_NE(note, nullptr) << path;
    const std::string said = text(note->reason) + " " + std::to_string(note->line) + ":" + std::to_string(note->column);
    EXPECT_EQ(said, expected) << path << ": " << text(note->message);
    EXPECT_EQ(text(note->reason), bad.status.reason) << path << ": the status has the first error";
    right += said == expected && text(note->reason) == bad.status.reason;
  }
  std::printf("%zu of %zu bad files\n", right, files.size());
  EXPECT_GE(files.size(), 94u);
}

TEST(job, a_buffer_that_is_too_small_says_what_it_needs) {
  const std::string file = content(checkout / "samples/digits/job.yaml");
  thole_document document = sized<thole_document>();
  thole_buffer none{nullptr, 0, 0};
  ASSERT_EQ(root()->job->read({0}, str(file), THOLE_STR("local"), &document, &none, nullptr), THOLE_TOO_SMALL);
  const uint64_t needed = none.used;
  ASSERT_GT(needed, 0u);
  std::size_t refused = 0;
  for (uint64_t size = 0; size < needed; size += 8) {
    std::vector<uint64_t> memory(size / 8 + 1, 0x5A5A5A5A5A5A5A5A);
    thole_buffer room{memory.data(), size, 0};
    const thole_code code = root()->job->read({0}, str(file), THOLE_STR("local"), &document, &room, nullptr);
    refused += code == THOLE_TOO_SMALL && room.used == needed && memory[size / 8] == 0x5A5A5A5A5A5A5A5A;
  }
  EXPECT_EQ(refused, (needed + 7) / 8);
  std::vector<uint64_t> memory((needed + 7) / 8);
  thole_buffer room{memory.data(), needed, 0};
  EXPECT_EQ(root()->job->read({0}, str(file), THOLE_STR("local"), &document, &room, nullptr), THOLE_OK);
}

TEST(job, arguments_that_are_wrong_are_told) {
  const std::string file = content(checkout / "samples/digits/job.yaml");
  EXPECT_EQ(reading(file, "nowhere").code, THOLE_INVALID);
  EXPECT_STREQ(reading(file, "nowhere").status.reason, "ArgumentBad");
  lent memory;
  thole_status status = sized<thole_status>();
  thole_gang_request request = sized<thole_gang_request>();
  EXPECT_NE(root()->job->gang({0}, THOLE_STR("{}"), {1, 1}, &request, &memory.room, &status), THOLE_OK);
  EXPECT_NE(root()->job->gang({0}, THOLE_STR("not json"), {1, 1}, &request, &memory.room, &status), THOLE_OK);
  thole_str json{};
  EXPECT_EQ(root()->job->schema({0}, THOLE_STR("Nothing"), &json, &memory.room, &status), THOLE_INVALID);
  EXPECT_STREQ(status.reason, "KindUnknown");
  for (thole_str kind : {THOLE_STR("TrainingJob"), THOLE_STR("NodePool")}) {
    lent large;
    ASSERT_EQ(root()->job->schema({0}, kind, &json, &large.room, &status), THOLE_OK) << status.message;
    EXPECT_NE(text(json).find("\"apiVersion\""), std::string::npos);
  }
}

// A core whose ledger has the nodes of the samples' pool.
struct desk {
  thole_core core{};
  thole_status status = sized<thole_status>();
  lent memory;
  desk() {
    const reading pool(content(checkout / "samples/digits/pool.yaml"));
    const std::string json = pool.json();
    thole_list levels{}, nodes{};
    EXPECT_EQ(root()->core->open(nullptr, &core, &status), THOLE_OK);
    EXPECT_EQ(root()->job->nodes({0}, str(json), {}, nullptr, &levels, &nodes, &memory.room, &status), THOLE_OK)
        << status.message;
    EXPECT_EQ(root()->gang->set_levels(core, &levels, &status), THOLE_OK) << status.message;
    EXPECT_EQ(root()->gang->set_nodes(core, &nodes, &status), THOLE_OK) << status.message;
  }
  ~desk() { root()->core->close(core, nullptr); }
  uint64_t digest() {
    thole_gang_query all = sized<thole_gang_query>();
    thole_usage usage = sized<thole_usage>();
    lent room;
    EXPECT_EQ(root()->gang->usage(core, &all, &usage, &room.room, &status), THOLE_OK);
    return usage.digest;
  }
};

TEST(job, becomes_a_gang_that_is_placed_and_after_a_restart_adopted) {
  desk first;
  const reading job(content(checkout / "samples/digits/job.yaml"));
  const std::string json = job.json();
  lent asked, planned;
  thole_gang_request request = sized<thole_gang_request>();
  thole_status status = sized<thole_status>();
  ASSERT_EQ(root()->job->gang({0}, str(json), {7, 7}, &request, &asked.room, &status), THOLE_OK) << status.message;
  thole_plan plan = sized<thole_plan>();
  ASSERT_EQ(root()->gang->plan(first.core, &request, 1, &plan, &planned.room, &status), THOLE_OK) << status.message;
  ASSERT_EQ(plan.placements.count, 4u);
  for (uint64_t i = 0; i < 4; ++i) {
    const auto *p = THOLE_AT(plan.placements, thole_placement, i);
    ASSERT_EQ(p->grants.count, 1u);
    const auto *g = THOLE_AT(p->grants, thole_grant, 0);
    EXPECT_EQ(g->memory_mib, 10240u);
    EXPECT_EQ(g->share_milli, 250u);
    EXPECT_TRUE((g->flags & THOLE_GPU_SIMULATED) != 0 && text(g->uuid).starts_with("SIM-"));
  }
  thole_reservation terms = sized<thole_reservation>();
  terms.now_ns = 1;
  ASSERT_EQ(root()->gang->reserve(first.core, &request, &plan, &terms, &status), THOLE_OK) << status.message;
  ASSERT_EQ(root()->gang->confirm(first.core, request.gang, 2, &status), THOLE_OK) << status.message;

  desk second;
  EXPECT_NE(second.digest(), first.digest());
  terms.flags = THOLE_RESERVE_ADOPT;
  ASSERT_EQ(root()->gang->reserve(second.core, &request, &plan, &terms, &status), THOLE_OK) << status.message;
  EXPECT_EQ(second.digest(), first.digest()) << "the ledger is what it was before the restart";
}

// The pool of the samples has no levels: whoever asks for one is told, and told which there are.
TEST(job, a_level_that_the_pool_does_not_have_is_named) {
  std::string file = content(checkout / "samples/digits/job.yaml");
  file += "  topology:\n    - {level: rack, mode: required}\n";
  const reading job(file);
  ASSERT_EQ(job.code, THOLE_OK) << job.status.message;
  const std::string json = job.json();
  desk d;
  lent asked, planned;
  thole_status status = sized<thole_status>();
  thole_gang_request request = sized<thole_gang_request>();
  ASSERT_EQ(root()->job->gang({0}, str(json), {7, 7}, &request, &asked.room, &status), THOLE_OK) << status.message;
  thole_plan plan = sized<thole_plan>();
  EXPECT_EQ(root()->gang->plan(d.core, &request, 1, &plan, &planned.room, &status), THOLE_INVALID);
  const std::string words = status.message;
  std::printf("%s: %s\n", status.reason, status.message);
  EXPECT_NE(words.find("rack"), std::string::npos) << words;
  EXPECT_NE(words.find("node"), std::string::npos) << words;
  thole_explanation explanation = sized<thole_explanation>();
  status = sized<thole_status>();
  EXPECT_EQ(root()->gang->explain(d.core, &request, 1, &explanation, &planned.room, &status), THOLE_INVALID);
  EXPECT_EQ(words, status.message);
}

}  // namespace
