#include "run/start.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "state/sweep.h"

namespace thole::local {
namespace {

constexpr std::size_t most_document_bytes = 4u << 20;
constexpr std::string_view this_machine =
    "apiVersion: thole.dev/v1alpha1\nkind: NodePool\nmetadata: {name: machine}\nspec: {simulated: false}\n";

// What an earlier run of the same name has left. Its checkpoints are elsewhere, and stay.
void clear_job_folder(const std::string &folder, const std::string &keep) {
  std::error_code bad;
  for (const auto &entry : std::filesystem::directory_iterator(folder, bad)) {
    const std::string name = entry.path().filename().string();
    if (name != "lock" && entry.path().string() != keep) remove_tree(entry.path().string());
  }
}

result<std::string> make_runtime_folder(const job_state &s) {
  THOLE_LET(const std::string base, runtime_folder());
  const std::string folder = base + "/" + id_text(s.run).substr(0, 13);
  remove_tree(folder);
  THOLE_TRY(make_private_folder(folder));
  return folder;
}

// The controller's metrics file, which is not left behind by a command that starts nothing.
class metrics_path {
 public:
  metrics_path(const layout &l, const std::string &job)
      : path_(l.job(job) + "/controller-" + std::to_string(wall_ns()) + ".metrics") {}
  ~metrics_path() {
    if (!kept_) ::unlink(path_.c_str());
  }
  metrics_path(const metrics_path &) = delete;
  metrics_path &operator=(const metrics_path &) = delete;
  const std::string &text() const noexcept { return path_; }
  void keep() noexcept { kept_ = true; }

 private:
  std::string path_;
  bool kept_ = false;
};

// Releases what was placed if the way to a running controller is left early.
class placed_gang {
 public:
  placed_gang(ledger &g, thole_id id) : ledger_(g), id_(id) {}
  ~placed_gang() {
    if (!kept_)
      if (auto released = ledger_.release(id_); !released) warn("{}", released.error().message);
  }
  placed_gang(const placed_gang &) = delete;
  placed_gang &operator=(const placed_gang &) = delete;
  void keep() noexcept { kept_ = true; }

 private:
  ledger &ledger_;
  thole_id id_;
  bool kept_ = false;
};

result<job_state> place_and_run(const layout &l, job_state state, const job_files &files, run_options options) {
  const bool is_new = state.attempt == 0;
  metrics_path metrics(l, state.name);
  THOLE_LET(ledger g, ledger::open(l, files.pool, metrics.text(), files.spec.wants_devices()));
  THOLE_TRY(sweep(l, g));
  THOLE_LET(state.members, g.place(files.job.text, state.gang));
  placed_gang placed(g, state.gang);
  state.ledger = g.name();
  state.simulated = files.pool.simulated;
  THOLE_LET(state.runtime, make_runtime_folder(state));
  if (is_new) {
    clear_job_folder(l.job(state.name), metrics.text());
    THOLE_TRY(replace_file(l.job(state.name) + "/job.json", files.job.text));
    THOLE_TRY(replace_file(l.job(state.name) + "/pool.json", files.pool.text));
    if (files.spec.has_checkpoint) forget_old_runs(l, state, options.keep.runs);
  }
  // From here on it can be resumed.
  THOLE_TRY(save(l, state));
  g.leave_gate();
  log_to_file(l.job(state.name) + "/controller.log");
  placed.keep();
  metrics.keep();
  const gpu_locks locks = g.take_locks();
  controller c(l, std::move(state), files.spec, files.job.text, g.take_core(), std::move(options));
  return c.run();
}

}  // namespace

result<pool_choice> read_pool(const library &core, const std::string &path, std::vector<remark> *remarks) {
  pool_choice pool;
  document d;
  if (path.empty()) {
    THOLE_LET(d, read_document(core, std::string(this_machine), "this machine"));
  } else {
    THOLE_LET(d, read_document_file(core, path));
  }
  if (d.kind != "NodePool") return fail(reason::KindUnknown, "{} is a {}: --pool wants a NodePool", path, d.kind);
  pool.text = d.text;
  pool.name = d.name;
  pool.simulated = pool_is_simulated(d.text);
  if (remarks != nullptr) *remarks = std::move(d.remarks);
  return pool;
}

result<job_files> read_job_files(const library &core, const std::string &job_path, const std::string &pool_path) {
  job_files files;
  THOLE_LET(files.job, read_document_file(core, job_path));
  if (files.job.kind != "TrainingJob")
    return fail(reason::KindUnknown, "{} is a {}: a TrainingJob is wanted here", job_path, files.job.kind);
  THOLE_LET(files.spec, job_spec_from(files.job.text));
  THOLE_LET(files.pool, read_pool(core, pool_path, &files.pool_remarks));
  files.folder = folder_of(absolute_path(job_path));
  return files;
}

result<job_state> run_new_job(const layout &l, const job_files &files, run_options options) {
  THOLE_TRY(find_programs(files.spec, files.folder));
  const std::string folder = l.job(files.spec.name);
  THOLE_TRY(make_private_folder(folder));
  THOLE_LET(const file_lock lock, lock_job(l, files.spec.name));
  job_state state;
  if (auto old = load(l, files.spec.name)) {
    if (!is_final(old->now))
      return fail(reason::JobInterrupted,
                  "the controller of {} was killed: `thole resume {}` goes on, `thole cancel {}` ends it",
                  files.spec.name, files.spec.name, files.spec.name);
    state.runs = std::move(old->runs);
  }
  state.name = files.spec.name;
  state.run = random_id();
  state.gang = random_id();
  state.folder = files.folder;
  state.started_wall_ns = wall_ns();
  const uint32_t jobs_kept = options.keep.jobs;
  auto done = place_and_run(l, std::move(state), files, std::move(options));
  // A job that was never begun leaves nothing behind; one that was there before, and was not replaced, stays as it was.
  if (!done)
    if (auto now = load(l, files.spec.name); !now || now->attempt == 0) remove_tree(folder);
  forget_old_jobs(l, jobs_kept);
  return done;
}

result<job_state> resume_job(const layout &l, const std::string &name, run_options options) {
  THOLE_TRY(load(l, name));
  THOLE_LET(const file_lock lock, lock_job(l, name));
  THOLE_LET(job_state state, load(l, name));  // as it is now that nobody else writes it
  if (state.now == phase::done) return state;
  end_orphans(state);
  job_files files;
  files.folder = state.folder;
  THOLE_LET(files.job.text, read_file(l.job(name) + "/job.json", most_document_bytes));
  THOLE_LET(files.spec, job_spec_from(files.job.text));
  THOLE_LET(files.pool.text, read_file(l.job(name) + "/pool.json", most_document_bytes));
  const json pool = json::parse(files.pool.text, nullptr, false);
  files.pool.simulated = pool_is_simulated(files.pool.text);
  if (pool.is_object()) files.pool.name = pool.value("metadata", json::object()).value("name", "");
  {
    THOLE_LET(ledger g, ledger::open(l, files.pool, {}, files.spec.wants_devices()));
    THOLE_TRY(g.release(state.gang));
  }
  state.gang = random_id();  // other placements, another name
  state.now = phase::recovering;
  if (state.attempt == 0) state.started_wall_ns = wall_ns();
  return place_and_run(l, std::move(state), files, std::move(options));
}

}  // namespace thole::local
