#include "state/job_state.h"

#include <poll.h>

#include <algorithm>

#include "base/text.h"

namespace thole::local {
namespace {

constexpr uint32_t state_version = 1;
constexpr std::size_t most_state_bytes = 64u << 20;
constexpr std::string_view phases[] = {"planned", "running", "recovering", "stopping", "done", "failed", "stopped"};

}  // namespace

std::string phase_text(phase p) {
  return std::string(phases[static_cast<std::size_t>(p)]);
}

bool is_final(phase p) noexcept {
  return p == phase::done || p == phase::failed || p == phase::stopped;
}

// Each struct is written and read field by field in one place, so that the two directions cannot part.
namespace {

struct writer {
  json &out;
  template <class T>
  void field(const char *name, const T &value) const {
    out[name] = value;
  }
  void field(const char *name, const thole_id &id) const { out[name] = id_text(id); }
  void field(const char *name, const phase &p) const { out[name] = phase_text(p); }
  template <class T>
  void optional(const char *name, const T &value) const {
    out[name] = value;
  }
  template <class T>
  void group(const char *name, const T &value) const;
  template <class T>
  void list(const char *name, const std::vector<T> &values) const;
};

struct reader {
  const json &in;
  template <class T>
  void field(const char *name, T &value) const {
    value = in.at(name).get<T>();
  }
  void field(const char *name, thole_id &id) const { id = parse_id(in.at(name).get<std::string>()).value(); }
  void field(const char *name, phase &p) const {
    const auto text = in.at(name).get<std::string>();
    const auto *const at = std::find(std::begin(phases), std::end(phases), text);
    if (at == std::end(phases)) throw std::out_of_range("phase");
    p = static_cast<phase>(at - std::begin(phases));
  }
  // Added after version 1 was first written.
  template <class T>
  void optional(const char *name, T &value) const {
    if (in.contains(name)) value = in.at(name).get<T>();
  }
  template <class T>
  void group(const char *name, T &value) const;
  template <class T>
  void list(const char *name, std::vector<T> &values) const;
};

template <class V, class S>
void fields(const V &v, S &s, process_name *) {
  v.field("pid", s.pid), v.field("start", s.start), v.field("boot", s.boot);
}
template <class V, class S>
void fields(const V &v, S &s, grant_state *) {
  v.field("uuid", s.uuid), v.field("kind", s.kind), v.field("memoryMiB", s.memory_mib);
  v.field("shareMilli", s.share_milli), v.field("migProfile", s.mig_profile), v.field("simulated", s.simulated);
  v.optional("migStart", s.mig_start), v.optional("migSize", s.mig_size);
}
template <class V, class S>
void fields(const V &v, S &s, member_state *) {
  v.field("role", s.role), v.field("roleName", s.role_name), v.field("member", s.member);
  v.field("firstRank", s.first_rank), v.field("ranks", s.ranks), v.field("node", s.node), v.list("grants", s.grants);
}
template <class V, class S>
void fields(const V &v, S &s, incident_state *) {
  v.field("kind", s.kind), v.field("rank", s.rank), v.field("code", s.code), v.field("attempt", s.attempt);
  v.field("atStep", s.at_step), v.field("safeStep", s.safe_step), v.field("cause", s.cause);
  v.field("message", s.message), v.field("traceback", s.traceback), v.field("detectionNs", s.detection_ns);
  v.field("recoveryNs", s.recovery_ns), v.field("restoredStep", s.restored_step), v.field("decision", s.decision);
}
template <class V, class S>
void fields(const V &v, S &s, checkpoint_state *) {
  v.field("step", s.step), v.field("attempt", s.attempt), v.field("parts", s.parts);
  v.field("committed", s.committed), v.field("bytes", s.bytes), v.field("fileBytes", s.file_bytes);
  v.field("seconds", s.seconds);
}
template <class V, class S>
void fields(const V &v, S &s, job_state *) {
  v.field("name", s.name), v.field("run", s.run), v.optional("runs", s.runs), v.field("gang", s.gang),
      v.field("phase", s.now);
  v.field("ledger", s.ledger), v.field("simulated", s.simulated), v.field("backend", s.backend);
  v.field("folder", s.folder), v.field("store", s.store), v.field("keyFile", s.key_file), v.field("attempt", s.attempt);
  v.field("stepsRun", s.steps_run), v.field("newestStep", s.newest_step);
  v.field("startedWallNs", s.started_wall_ns), v.field("endedWallNs", s.ended_wall_ns), v.field("runNs", s.run_ns);
  v.group("controller", s.controller), v.field("runtime", s.runtime), v.list("processes", s.processes);
  v.list("members", s.members), v.list("incidents", s.incidents), v.list("checkpoints", s.checkpoints);
  v.field("checkpointsCommitted", s.checkpoints_committed), v.field("result", s.result);
  v.field("exitCode", s.exit_code), v.field("reason", s.reason), v.field("message", s.message);
}

template <class T>
void writer::group(const char *name, const T &value) const {
  json inner = json::object();
  fields(writer{inner}, value, static_cast<T *>(nullptr));
  out[name] = std::move(inner);
}
template <class T>
void writer::list(const char *name, const std::vector<T> &values) const {
  json all = json::array();
  for (const T &value : values) {
    json one = json::object();
    fields(writer{one}, value, static_cast<T *>(nullptr));
    all.push_back(std::move(one));
  }
  out[name] = std::move(all);
}
template <class T>
void reader::group(const char *name, T &value) const {
  fields(reader{in.at(name)}, value, static_cast<T *>(nullptr));
}
template <class T>
void reader::list(const char *name, std::vector<T> &values) const {
  for (const json &one : in.at(name)) fields(reader{one}, values.emplace_back(), static_cast<T *>(nullptr));
}

}  // namespace

json to_json(const job_state &s) {
  json out = json::object();
  out["version"] = state_version;
  fields(writer{out}, s, static_cast<job_state *>(nullptr));
  return out;
}

result<job_state> job_state_from(std::string_view text, const std::string &file) {
  try {
    const json in = json::parse(text);
    const auto version = in.at("version").get<uint32_t>();
    if (version > state_version)
      return fail(reason::StateNewer, "{} has version {}; this thole knows {}", file, version, state_version);
    job_state s;
    fields(reader{in}, s, static_cast<job_state *>(nullptr));
    return s;
  } catch (const std::exception &e) {
    return fail(reason::JournalDamaged, "{} cannot be read ({}): remove the job's folder and run it again", file,
                utf8_or_replaced(e.what()));
  }
}

result<> save(const layout &l, const job_state &s) {
  return replace_file(l.job(s.name) + "/state.json", to_json(s).dump(1, ' ', false, json::error_handler_t::replace));
}

result<job_state> load(const layout &l, const std::string &name) {
  const std::string file = l.job(name) + "/state.json";
  // A name is one path component, or it is no job's.
  if (name.empty() || name.find('/') != std::string::npos || name[0] == '.' || !exists(file))
    return fail(reason::JobUnknown, "there is no job {} in {}: `thole status` lists them", utf8_or_replaced(name),
                l.root());
  THOLE_LET(const std::string text, read_file(file, most_state_bytes));
  return job_state_from(text, file);
}

result<file_lock> lock_job(const layout &l, const std::string &name, int patience_ms) {
  for (int waited = 0;; waited += 20) {
    THOLE_LET(file_lock lock, file_lock::take(l.job(name) + "/lock", false));
    if (lock) return lock;
    if (waited >= patience_ms)
      return fail(reason::JobExists, "a job {} is running: `thole cancel {}`, wait, or use another name", name, name);
    ::poll(nullptr, 0, 20);
  }
}

bool job_is_running(const layout &l, const std::string &name) {
  return file_lock::is_held(l.job(name) + "/lock");
}

}  // namespace thole::local
