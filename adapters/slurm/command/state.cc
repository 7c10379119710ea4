#include "state.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "files.h"

namespace thole::slurm {

std::string state_folder(const std::string &given) {
  if (!given.empty()) return absolute(given);
  const char *state = std::getenv("XDG_STATE_HOME");
  const char *home = std::getenv("HOME");
  if (state != nullptr && *state == '/') return std::string(state) + "/thole";
  return std::string(home == nullptr ? "" : home) + "/.local/state/thole";
}

submitted plan_submission(const training_job &job, const std::string &state, const std::string &store,
                          const std::string &key) {
  submitted s;
  s.name = job.name;
  s.folder = state + "/slurm/" + job.name;
  s.run = new_run();
  s.grace = job.grace;
  s.limited = job.time_limit > 0;
  s.ranks_per_member = job.ranks_per_member;
  s.max_incidents = job.max_incidents;
  s.max_without_progress = job.max_without_progress;
  s.max_same_cause = job.max_same_cause;
  if (!job.has_checkpoint) return s;
  s.interval = job.interval;
  s.keep = job.keep;
  s.store = store.empty() ? state + "/stores/" + job.store + "/" + job.name + "-" + s.run : absolute(store);
  s.key = key.empty() ? state + "/keys/" + job.key + ".key" : absolute(key);
  return s;
}

result<> save(const submitted &s) {
  const json all = {{"version", 1},
                    {"name", s.name},
                    {"id", s.id},
                    {"run", s.run},
                    {"store", s.store},
                    {"key", s.key},
                    {"interval", s.interval},
                    {"keep", s.keep},
                    {"grace", s.grace},
                    {"limited", s.limited},
                    {"ranksPerMember", s.ranks_per_member},
                    {"maxIncidents", s.max_incidents},
                    {"maxWithoutProgress", s.max_without_progress},
                    {"maxSameCause", s.max_same_cause}};
  return write_file(s.folder + "/job.json", all.dump(2) + "\n");
}

result<submitted> load_folder(const std::string &folder) {
  THOLE_LET(const std::string text, read_file(folder + "/job.json"));
  const json all = json::parse(text, nullptr, false);
  if (!all.is_object()) return fail(reason::JobUnknown, "{}/job.json is damaged", folder);
  if (all.value("version", 0) > 1) return fail(reason::StateNewer, "a newer Thole wrote {}", folder);
  submitted s;
  s.folder = folder;
  s.name = all.value("name", "");
  s.id = all.value("id", "");
  s.run = all.value("run", "");
  s.store = all.value("store", "");
  s.key = all.value("key", "");
  s.interval = all.value("interval", uint64_t{0});
  s.keep = all.value("keep", 0u);
  s.grace = all.value("grace", uint64_t{30});
  s.limited = all.value("limited", false);
  s.ranks_per_member = all.value("ranksPerMember", 1u);
  s.max_incidents = all.value("maxIncidents", 0u);
  s.max_without_progress = all.value("maxWithoutProgress", 0u);
  s.max_same_cause = all.value("maxSameCause", 0u);
  return s;
}

result<submitted> load(const std::string &state, const std::string &name) {
  const std::string folder = state + "/slurm/" + name;
  if (name.empty() || name.find('/') != std::string::npos || !exists(folder + "/job.json"))
    return fail(reason::JobUnknown,
                "there is no job {} that was submitted to Slurm: `thole status --on slurm` lists them", name);
  return load_folder(folder);
}

std::vector<std::string> all_names(const std::string &state) {
  std::vector<std::string> names;
  std::error_code bad;
  for (const auto &entry : std::filesystem::directory_iterator(state + "/slurm", bad))
    if (exists(entry.path().string() + "/job.json")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

// sbatch reads its lines as a shell would: double quotes keep a word together.
std::string option(const std::string &name, const std::string &value) {
  const bool plain = shell_word(value) == value;
  return "#SBATCH --" + name + "=" + (plain ? value : "\"" + value + "\"") + "\n";
}

std::string size_text(uint64_t mib) {
  return mib % 1024 == 0 ? fmt::format("{}Gi", mib / 1024) : fmt::format("{}Mi", mib);
}

std::string options_of(const training_job &job, const submitted &s, const shape &how) {
  std::string out = option("job-name", job.name);
  if (how.nodes > 0) out += option("nodes", std::to_string(how.nodes));
  out += option("ntasks", std::to_string(job.members));
  if (how.tasks_per_node > 0) out += option("ntasks-per-node", std::to_string(how.tasks_per_node));
  out += option("cpus-per-task", std::to_string(job.cpus));
  // Of a task; Slurm counts it by the CPU.
  out += option("mem-per-cpu", fmt::format("{}M", (job.memory_mib + job.cpus - 1) / job.cpus));
  if (job.vgpu_mib > 0) out += option("thole-vgpu-memory", size_text(job.vgpu_mib));
  else out += "#SBATCH --thole\n";
  if (job.share_milli > 0)
    out += option("thole-vgpu-share", job.share_milli % 10 == 0
                                          ? std::to_string(job.share_milli / 10)
                                          : fmt::format("{}.{}", job.share_milli / 10, job.share_milli % 10));
  if (job.gpus > 0) out += option("gpus-per-task", std::to_string(job.gpus));
  if (job.time_limit > 0) {
    out += option("time", fmt::format("{}:{:02}", job.time_limit / 60, job.time_limit % 60));
    out += option("signal", fmt::format("TERM@{}", job.grace));
  }
  if (!job.queue.empty()) out += option("partition", job.queue);
  if (!job.account.empty()) out += option("account", job.account);
  out += "#SBATCH --requeue\n#SBATCH --open-mode=append\n";
  out += option("output", s.folder + "/log");
  out += option("chdir", job.workdir.empty() || job.workdir[0] != '/'
                             ? std::filesystem::path(job.folder + "/" + job.workdir).lexically_normal().string()
                             : job.workdir);
  for (const std::string &native : job.options) out += "#SBATCH " + native + "\n";
  return out;
}

std::string exported(const std::string &name, const std::string &value) {
  return "export " + name + "=" + shell_word(value) + "\n";
}

}  // namespace

std::string batch_script(const training_job &job, const submitted &s, const shape &how) {
  std::string out = "#!/bin/bash\n" + options_of(job, s, how);
  out += exported("THOLE_JOB", job.name) + exported("THOLE_RUN", s.run);
  if (!s.store.empty()) {
    out += exported("THOLE_STORE", s.store) + exported("THOLE_KEY", s.key);
    out += exported("THOLE_CHECKPOINT_INTERVAL", std::to_string(s.interval));
  }
  if (job.ranks_per_member > 1) out += exported("THOLE_RANKS_PER_MEMBER", std::to_string(job.ranks_per_member));
  for (const auto &[name, value] : job.environment) out += exported(name, value);
  out += "folder=" + shell_word(s.folder) + "/attempts/$THOLE_ATTEMPT\nmkdir -p \"$folder\"\n";
  // A rank that fails takes the others along; what is to happen then is decided afterwards.
  out += "srun --kill-on-bad-exit=1 --output=\"$folder/rank-%t.log\"";
  for (const std::string &word : job.command) out += " " + shell_word(word);
  out += " 2>\"$folder/srun.log\"\n";
  out += "exec " + shell_word(own_program()) + " after --code \"$?\" " + shell_word(s.folder) + "\n";
  return out;
}

}  // namespace thole::slurm
