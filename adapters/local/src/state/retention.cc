#include "state/retention.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/log.h"
#include "base/text.h"

namespace thole::local {

namespace fs = std::filesystem;

void forget_old_jobs(const layout &l, uint32_t keep) {
  std::vector<std::pair<int64_t, std::string>> ended;
  for (const std::string &name : l.job_names())
    if (auto s = load(l, name); s && is_final(s->now)) ended.emplace_back(s->ended_wall_ns, name);
  std::sort(ended.begin(), ended.end(), std::greater<>());
  for (std::size_t i = keep; i < ended.size(); ++i)
    if (auto lock = lock_job(l, ended[i].second, 0)) remove_tree(l.job(ended[i].second));
}

void forget_old_attempts(const layout &l, const std::string &job, uint64_t newest, uint32_t keep) {
  if (newest <= keep) return;
  std::error_code bad;
  for (const auto &attempt : fs::directory_iterator(l.job(job) + "/attempts", bad)) {
    const auto number = parse_u64(attempt.path().filename().string());
    if (!number || *number > newest - keep) continue;
    for (const auto &file : fs::directory_iterator(attempt.path(), bad))
      if (file.path().extension() != ".metrics") remove_tree(file.path().string());
    fs::remove(attempt.path(), bad);  // if nothing is left
  }
}

namespace {

// Folders of this job's runs, in every store of the state folder: {run, folder}.
std::vector<std::pair<std::string, std::string>> run_folders(const layout &l, const std::string &job) {
  std::vector<std::pair<std::string, std::string>> found;
  std::error_code bad;
  for (const auto &store : fs::directory_iterator(l.stores(), bad))
    for (const auto &folder : fs::directory_iterator(store.path(), bad)) {
      const std::string name = folder.path().filename().string();
      // "a-ID" is of job a; so is not "a-b-ID".
      if (name.rfind(job + "-", 0) != 0 || !parse_id(std::string_view(name).substr(job.size() + 1))) continue;
      found.emplace_back(name.substr(job.size() + 1), folder.path().string());
    }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

void forget_old_runs(const layout &l, job_state &s, uint32_t keep) {
  const auto folders = run_folders(l, s.name);
  // Those that no state remembers are the oldest: their job was forgotten, or its command was killed as it began.
  std::vector<std::string> runs;
  for (const auto &[run, folder] : folders)
    if (run != id_text(s.run) && std::find(s.runs.begin(), s.runs.end(), run) == s.runs.end()) runs.push_back(run);
  for (const std::string &run : s.runs)
    if (run != id_text(s.run)) runs.push_back(run);
  runs.push_back(id_text(s.run));
  const std::size_t kept = std::max<uint32_t>(keep, 1);
  const auto first_kept = runs.begin() + static_cast<std::ptrdiff_t>(runs.size() - std::min(runs.size(), kept));
  const std::set<std::string> forgotten(runs.begin(), first_kept);
  for (const auto &[run, folder] : folders) {
    if (forgotten.count(run) == 0) continue;
    say("the checkpoints of an older run are deleted: {}", folder);
    remove_tree(folder);
  }
  s.runs.assign(first_kept, runs.end());
}

}  // namespace thole::local
