// thole-slurm logs, explain, watch, gpus: what is there, and why.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "commands.h"
#include "files.h"
#include "queue.h"
#include "site.h"
#include "state.h"

namespace thole::slurm {
namespace {

uint64_t newest_attempt(const std::string &folder) {
  uint64_t newest = 0;
  std::error_code bad;
  for (const auto &entry : std::filesystem::directory_iterator(folder + "/attempts", bad))
    newest = std::max(newest, number(entry.path().filename().string()).value_or(0));
  return newest;
}

// What has been added to an attempt's logs since the last look, a line as "RANK| line".
void print_new(const std::string &folder, uint64_t attempt, int only, std::map<std::string, std::streamoff> &seen) {
  std::map<uint64_t, std::string> files;
  std::error_code bad;
  for (const auto &entry : std::filesystem::directory_iterator(fmt::format("{}/attempts/{}", folder, attempt), bad)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("rank-", 0) != 0) continue;
    const auto rank = number(name.substr(5, name.find('.') - 5));
    if (rank && (only < 0 || *rank == static_cast<uint64_t>(only))) files[*rank] = entry.path().string();
  }
  for (const auto &[rank, path] : files) {
    std::ifstream in(path, std::ios::binary);
    in.seekg(seen[path]);
    std::string line;
    while (std::getline(in, line)) {
      if (in.eof()) break;  // not finished yet
      std::printf("%llu| %s\n", static_cast<unsigned long long>(rank), line.c_str());
      seen[path] = in.tellg();
    }
  }
  std::fflush(stdout);
}

result<bool> is_running(const submitted &s) {
  THOLE_LET(const std::vector<fields> jobs, show({"job", s.id}));
  return !jobs.empty() && jobs[0].count("JobState") > 0 && !is_over(jobs[0].at("JobState"));
}

std::string value(const fields &f, const char *name) {
  const auto at = f.find(name);
  return at == f.end() ? std::string() : at->second;
}

result<> comment_on(const fields &job, const usage &u, uint64_t shard_mib) {
  static const std::string mark = "thole: ";
  const std::string old = value(job, "AdminComment");
  std::string fresh;
  if (value(job, "JobState") == "PENDING") {
    const wait w = explain_wait(job, u, shard_mib);
    if (w.reason.empty()) return {};
    fresh = mark + w.reason + ": " + w.sentence;
  } else if (old.rfind(mark, 0) != 0 || is_over(value(job, "JobState"))) {
    return {};
  }
  if (fresh == old) return {};
  THOLE_LET(const finished done,
            run_program({"scontrol", "update", "JobId=" + value(job, "JobId"), "AdminComment=" + fresh}));
  if (done.code != 0) std::fprintf(stderr, "thole: job %s: %s", value(job, "JobId").c_str(), done.err.c_str());
  return {};
}

}  // namespace

result<int> logs(const common_options &common, const logs_options &options) {
  THOLE_LET(const submitted s, load(state_folder(common.state), options.name));
  std::map<std::string, std::streamoff> seen;
  uint64_t attempt = options.attempt > 0 ? options.attempt : newest_attempt(s.folder);
  for (;;) {
    THOLE_LET(const bool running, is_running(s));
    print_new(s.folder, attempt, options.rank, seen);
    const uint64_t newest = options.attempt > 0 ? attempt : newest_attempt(s.folder);
    if (newest == attempt && (!running || !options.follow)) return 0;
    if (newest != attempt) ++attempt;
    else std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
}

result<int> explain(const common_options &common, const std::string &name) {
  std::string id = name;
  if (!number(name.substr(0, name.find_first_of("_+")))) {
    THOLE_LET(const submitted s, load(state_folder(common.state), name));
    id = s.id;
  }
  THOLE_LET(const slurm_site site, read_site());
  THOLE_LET(const std::vector<fields> jobs, show({"job", id}));
  if (jobs.empty()) return fail(reason::JobUnknown, "Slurm knows no job {}", id);
  const std::string state = value(jobs[0], "JobState");
  wait w;
  if (state == "PENDING") {
    THOLE_LET(const usage u, read_usage());
    w = explain_wait(jobs[0], u, site.shard_mib);
  }
  const bool waits = state == "PENDING" && !w.fits;
  if (w.reason.empty()) w = {value(jobs[0], "Reason"), "job " + id + " is " + state, !waits};
  if (common.as_json)
    std::printf(
        "%s\n",
        json{{"fits", !waits}, {"state", state}, {"reason", w.reason}, {"message", w.sentence}}.dump(2).c_str());
  else std::printf("%s: %s\n  %s\n", name.c_str(), w.reason.c_str(), w.sentence.c_str());
  return waits ? 69 : 0;
}

result<int> watch(const common_options &, uint32_t seconds, bool once) {
  THOLE_LET(const slurm_site site, read_site());
  for (;;) {
    THOLE_LET(const std::vector<fields> jobs, show({"job"}));
    const bool any = std::any_of(jobs.begin(), jobs.end(), [](const fields &j) {
      return value(j, "TresPerNode").find("shard") != std::string::npos;
    });
    if (any) {
      THOLE_LET(const usage u, read_usage());
      for (const fields &job : jobs) THOLE_TRY(comment_on(job, u, site.shard_mib));
    }
    if (once) return 0;
    std::this_thread::sleep_for(std::chrono::seconds(seconds));
  }
}

result<int> list_gpus() {
  THOLE_LET(const auto c, core::open());
  if (c->root().device == nullptr) return fail(reason::ServiceMissing, "this build of libthole lists no devices");
  const char *given = std::getenv("THOLE_PLUGINS");
  const std::string folder = given != nullptr ? given : std::string(THOLE_PLUGIN_FOLDER);
  THOLE_TRY(call([&](thole_status *s) { return c->root().core->load(c->handle(), borrow(folder), s); }));
  std::vector<uint64_t> room;
  auto list = sized<thole_gpu_list>();
  THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *s) {
    return c->root().device->list(c->handle(), THOLE_STR("thole.device.nvml"), THOLE_STR("{}"), &list, b, s);
  }));
  std::printf("# index uuid memory_mib\n");
  for (uint64_t i = 0; i < list.gpus.count; ++i) {
    const auto *gpu = THOLE_AT(list.gpus, thole_gpu, i);
    std::printf("%llu %s %llu\n", static_cast<unsigned long long>(i), own(gpu->uuid).c_str(),
                static_cast<unsigned long long>(gpu->memory_mib));
  }
  return 0;
}

}  // namespace thole::slurm
