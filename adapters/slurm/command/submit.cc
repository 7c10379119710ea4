// thole-slurm submit, status, cancel.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "commands.h"
#include "files.h"
#include "queue.h"
#include "site.h"
#include "state.h"

namespace thole::slurm {
namespace {

void print(const std::string &text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

result<std::string> state_of(const submitted &s) {
  if (s.id.empty()) return std::string("UNKNOWN");
  THOLE_LET(const std::vector<fields> jobs, show({"job", s.id}));
  // Slurm forgets a job some time after its end.
  if (jobs.empty() || jobs[0].count("JobState") == 0) return std::string("FORGOTTEN");
  return jobs[0].at("JobState");
}

result<> refuse_running(const std::string &state, const std::string &name) {
  if (!exists(state + "/slurm/" + name + "/job.json")) return {};
  THOLE_LET(const submitted old, load(state, name));
  THOLE_LET(const std::string now, state_of(old));
  if (now == "UNKNOWN" || now == "FORGOTTEN" || is_over(now)) return {};
  return fail(reason::JobExists, "{} is job {} of Slurm, and {}: cancel it, wait, or use another name", name, old.id,
              now);
}

result<> make_key(const core &c, const submitted &s) {
  if (s.key.empty() || exists(s.key)) return {};
  THOLE_TRY(make_private_folder(std::filesystem::path(s.key).parent_path().string()));
  THOLE_TRY(call([&](thole_status *status) { return c.root().core->key_new(c.handle(), borrow(s.key), status); }));
  std::fprintf(stderr, "thole: the key %s was not there: made anew; whoever loses it loses the checkpoints\n",
               s.key.c_str());
  return {};
}

std::string first_line(const std::string &text) {
  // srun and sbatch say "error:" before each of theirs; the first one is ours if it begins with thole.
  for (const std::string &line : lines_of(text))
    if (const auto at = line.find("thole: "); at != std::string::npos) return line.substr(at + 7);
  return text.substr(0, text.find('\n'));
}

json job_json(const submitted &s, const fields *slurm, uint64_t newest) {
  const auto get = [&](const char *name) {
    const auto at = slurm == nullptr ? fields::const_iterator() : slurm->find(name);
    return slurm == nullptr || at == slurm->end() ? std::string() : at->second;
  };
  json incidents = json::array();
  if (const auto text = read_file(s.folder + "/incidents.json")) {
    const json all = json::parse(*text, nullptr, false);
    if (all.is_array()) incidents = all;
  }
  return {{"job", s.name},
          {"id", s.id},
          {"run", s.run},
          {"state", slurm == nullptr ? "FORGOTTEN" : get("JobState")},
          {"reason", get("Reason")},
          {"comment", get("AdminComment")},
          {"nodes", get("NodeList")},
          {"attempts", number(get("Restarts")).value_or(0) + 1},
          {"exitCode", get("ExitCode")},
          {"newestCheckpoint", newest},
          {"incidents", std::move(incidents)},
          {"store", s.store},
          {"key", s.key},
          {"folder", s.folder}};
}

result<json> describe(const core &c, const submitted &s) {
  THOLE_LET(const std::vector<fields> jobs, show({"job", s.id}));
  uint64_t newest = 0;
  if (!s.store.empty() && exists(s.store)) {
    THOLE_LET(newest, newest_step(c, s.checkpoints()));
  }
  return job_json(s, jobs.empty() ? nullptr : &jobs[0], newest);
}

void print_job(const json &j) {
  print(fmt::format("{}: {}\n  slurm        job {}, {} {}\n  attempts     {}\n  checkpoint   step {}\n",
                    j["job"].get<std::string>(), j["state"].get<std::string>(), j["id"].get<std::string>(),
                    j["nodes"].get<std::string>().empty() ? "no nodes yet" : "on", j["nodes"].get<std::string>(),
                    j["attempts"].get<uint64_t>(), j["newestCheckpoint"].get<uint64_t>()));
  for (const json &i : j["incidents"])
    print(fmt::format("  incident     attempt {}, step {}: {}\n", i.value("attempt", uint64_t{0}),
                      i.value("step", uint64_t{0}), i.value("message", "")));
  if (const std::string comment = j["comment"]; !comment.empty()) print("  comment      " + comment + "\n");
}

}  // namespace

result<int> submit(const common_options &common, const submit_options &options) {
  const std::string state = state_folder(common.state);
  THOLE_LET(const auto c, core::open());
  THOLE_LET(const training_job job, read_job(*c, options.job));
  THOLE_LET(const slurm_site site, read_site());
  THOLE_LET(const shape how, shape_of(job, options.nodes, site.shard_mib, site.largest_mib));
  submitted s = plan_submission(job, state, options.store, options.key);
  const std::string script = batch_script(job, s, how);
  for (const std::string &sentence : job.ignored) std::fprintf(stderr, "thole: %s (Ignored)\n", sentence.c_str());
  if (options.dry_run) {
    print(script);
    return 0;
  }
  THOLE_TRY(make_private_folder(state));
  THOLE_TRY(refuse_running(state, s.name));
  THOLE_TRY(make_key(*c, s));
  std::error_code bad;
  std::filesystem::remove_all(s.folder, bad);
  THOLE_TRY(make_private_folder(s.folder));
  if (!s.store.empty()) THOLE_TRY(make_private_folder(std::filesystem::path(s.store).parent_path().string()));
  THOLE_TRY(write_file(s.folder + "/script", script));
  THOLE_LET(const finished done, run_program({"sbatch", "--parsable", s.folder + "/script"}));
  if (done.code != 0) {
    std::filesystem::remove_all(s.folder, bad);
    return fail(reason::RequestBad, "Slurm does not take the job: {}", first_line(done.err));
  }
  s.id = done.out.substr(0, done.out.find_first_of(";\n"));
  THOLE_TRY(save(s));
  if (common.as_json) print(json{{"job", s.name}, {"id", s.id}, {"run", s.run}, {"folder", s.folder}}.dump(2) + "\n");
  else
    print(
        fmt::format("{} is job {} of Slurm; `thole status --on slurm {}` and `thole logs --on slurm -f {}` follow it\n",
                    s.name, s.id, s.name, s.name));
  return 0;
}

result<int> status(const common_options &common, const std::string &name) {
  const std::string state = state_folder(common.state);
  THOLE_LET(const auto c, core::open());
  if (!name.empty()) {
    THOLE_LET(const submitted s, load(state, name));
    THOLE_LET(const json j, describe(*c, s));
    if (common.as_json) print(j.dump(2) + "\n");
    else print_job(j);
    return 0;
  }
  json all = json::array();
  for (const std::string &one : all_names(state)) {
    THOLE_LET(const submitted s, load(state, one));
    THOLE_LET(json j, describe(*c, s));
    if (!common.as_json)
      print(fmt::format("{:24} {:>8} {:12} attempt {}, checkpoint of step {}\n", one, s.id,
                        j["state"].get<std::string>(), j["attempts"].get<uint64_t>(),
                        j["newestCheckpoint"].get<uint64_t>()));
    all.push_back(std::move(j));
  }
  if (common.as_json) print(json{{"jobs", all}}.dump(2) + "\n");
  return 0;
}

result<int> cancel(const common_options &common, const std::string &name, bool now) {
  THOLE_LET(const submitted s, load(state_folder(common.state), name));
  THOLE_LET(std::string state, state_of(s));
  if (state == "FORGOTTEN" || is_over(state)) {
    print(fmt::format("{} has ended already ({})\n", name, state));
    return 0;
  }
  // The script's end asks whether a stop was wanted, or the job should go on elsewhere.
  THOLE_TRY(write_file(s.folder + "/cancelled", "by the user\n"));
  if (state == "RUNNING" && !now) {
    THOLE_TRY(run_program({"scancel", "--signal=TERM", s.id}));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(s.grace);
    while (state == "RUNNING" && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      THOLE_LET(state, state_of(s));
    }
  }
  if (!is_over(state) && state != "COMPLETING") THOLE_TRY(run_program({"scancel", s.id}));
  print(fmt::format("{} is stopped{}\n", name, now ? "" : "; its ranks were asked to save first"));
  return 0;
}

}  // namespace thole::slurm
