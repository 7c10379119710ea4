#include "run/summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/clock.h"
#include "base/text.h"

namespace thole::local {
namespace {

json seconds_or_null(int64_t ns) {
  return ns < 0 ? json(nullptr) : json(in_seconds(ns));
}

double rate(const checkpoint_state &c) {
  return c.seconds > 0 ? static_cast<double>(c.bytes) / c.seconds / 1e6 : 0;
}

json checkpoints_json(const job_state &s) {
  json list = json::array();
  for (const checkpoint_state &c : s.checkpoints)
    list.push_back({{"step", c.step},
                    {"attempt", c.attempt},
                    {"parts", c.parts},
                    {"committed", c.committed},
                    {"bytes", c.bytes},
                    {"fileBytes", c.file_bytes},
                    {"seconds", c.seconds},
                    {"megabytesPerSecond", rate(c)}});
  return list;
}

json incidents_json(const job_state &s) {
  json list = json::array();
  for (const incident_state &i : s.incidents)
    list.push_back({{"kind", i.kind},
                    {"rank", i.rank},
                    {"code", i.code},
                    {"attempt", i.attempt},
                    {"step", i.at_step},
                    {"safeStep", i.safe_step},
                    {"message", utf8_or_replaced(i.message)},
                    {"detectionSeconds", seconds_or_null(i.detection_ns)},
                    {"recoverySeconds", seconds_or_null(i.recovery_ns)},
                    {"restoredStep", i.restored_step},
                    {"decision", i.decision}});
  return list;
}

std::string grant_text(const grant_state &g) {
  if (g.kind == "mig") return fmt::format("MIG {} at {} of {}", g.mig_profile, g.mig_start, g.uuid);
  if (g.kind != "vgpu") return "GPU " + g.uuid;
  const std::string share = g.share_milli == 0 ? "" : fmt::format(", share {:.3g},", g.share_milli / 1000.0);
  return fmt::format("vGPU {}{} of {}", bytes_text(g.memory_mib << 20), share, g.uuid);
}

std::string scalar_text(const json &value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.dump();
}

void checkpoints_text(const job_state &s, std::string &out) {
  if (s.checkpoints_committed == 0) return;
  const auto last =
      std::find_if(s.checkpoints.rbegin(), s.checkpoints.rend(), [](const auto &c) { return c.committed; });
  if (last == s.checkpoints.rend()) return;
  out += fmt::format("  checkpoints  {} committed; newest: step {}, {} ({} as stored), {:.1f} MB/s\n",
                     s.checkpoints_committed, last->step, bytes_text(last->bytes), bytes_text(last->file_bytes),
                     rate(*last));
  if (!s.store.empty()) out += fmt::format("               in {}\n", s.store);
}

void incidents_text(const job_state &s, std::string &out) {
  for (const incident_state &i : s.incidents) {
    out += fmt::format("  incident     attempt {}, rank {}, step {}: {}\n", i.attempt, i.rank, i.at_step,
                       utf8_or_replaced(i.message));
    std::string times = i.detection_ns < 0 ? "" : fmt::format("noticed after {}", duration_text(i.detection_ns));
    if (i.recovery_ns >= 0)
      times += fmt::format("{}went on at step {}, {} later", times.empty() ? "" : "; ", i.restored_step + 1,
                           duration_text(i.recovery_ns));
    if (!times.empty()) out += "               " + times + "\n";
  }
}

}  // namespace

json member_json(const member_state &m) {
  json devices = json::array();
  for (const grant_state &g : m.grants)
    devices.push_back({{"uuid", g.uuid},
                       {"kind", g.kind},
                       {"memoryMiB", g.memory_mib},
                       {"shareMilli", g.share_milli},
                       {"migProfile", g.mig_profile},
                       {"migStart", g.mig_start},
                       {"migSize", g.mig_size},
                       {"simulated", g.simulated}});
  return {{"role", m.role_name}, {"member", m.member}, {"firstRank", m.first_rank},
          {"ranks", m.ranks},    {"node", m.node},     {"devices", std::move(devices)}};
}

std::string member_text(const member_state &m) {
  const std::string ranks = m.ranks == 1 ? fmt::format("rank {}", m.first_rank)
                                         : fmt::format("ranks {} to {}", m.first_rank, m.first_rank + m.ranks - 1);
  std::vector<std::string> devices;
  for (const grant_state &g : m.grants) devices.push_back(grant_text(g));
  return fmt::format("{} {} ({}) on {}: {}", m.role_name, m.member, ranks, m.node,
                     devices.empty() ? "no device" : join(devices, "; "));
}

json summary_json(const layout &l, const job_state &s, bool running) {
  json gang = json::array();
  for (const member_state &m : s.members) gang.push_back(member_json(m));
  return {{"job", s.name},
          {"run", id_text(s.run)},
          {"phase", phase_text(s.now)},
          {"running", running},
          {"reason", s.reason},
          {"message", utf8_or_replaced(s.message)},
          {"exitCode", s.exit_code},
          {"simulated", s.simulated},
          {"backend", s.backend},
          {"attempts", s.attempt},
          {"steps", {{"newest", s.newest_step}, {"run", s.steps_run}}},
          {"seconds", in_seconds(s.run_ns)},
          {"started", utc_text(s.started_wall_ns)},
          {"gang", std::move(gang)},
          {"checkpointsCommitted", s.checkpoints_committed},
          {"checkpoints", checkpoints_json(s)},
          {"incidents", incidents_json(s)},
          {"result", s.result},
          {"store", s.store},
          {"key", s.key_file},
          {"folder", l.job(s.name)},
          {"metrics", l.job(s.name) + "/metrics.txt"}};
}

std::string summary_text(const layout &l, const job_state &s, bool running, bool colour) {
  const bool good = s.now == phase::done;
  const char *tint = !colour ? "" : good ? "\x1b[32m" : is_final(s.now) ? "\x1b[31m" : "\x1b[36m";
  const std::string now =
      is_final(s.now) || running ? phase_text(s.now) : "interrupted: `thole resume " + s.name + "` goes on";
  std::string out = fmt::format("{}{}: {}{}\n", tint, s.name, now, colour ? "\x1b[0m" : "");
  if (!s.message.empty() && !good) out += fmt::format("  {}: {}\n", s.reason, utf8_or_replaced(s.message));
  uint32_t ranks = 0;
  for (const member_state &m : s.members) ranks += m.ranks;
  out += fmt::format("  gang         {} members, {} ranks{}; caps are held by: {}\n", s.members.size(), ranks,
                     s.simulated ? ", simulated" : "", s.backend.empty() ? "none" : s.backend);
  for (std::size_t i = 0; i < s.members.size() && i < 16; ++i)
    out += fmt::format("               {}\n", member_text(s.members[i]));
  if (s.members.size() > 16) out += fmt::format("               and {} more\n", s.members.size() - 16);
  out += fmt::format("  steps        {} done, {} run in {} attempt{}, {}\n", s.newest_step, s.steps_run, s.attempt,
                     s.attempt == 1 ? "" : "s", duration_text(s.run_ns));
  checkpoints_text(s, out);
  incidents_text(s, out);
  for (const auto &[name, value] : s.result.items())
    out += fmt::format("  {:<12} {}\n", utf8_or_replaced(name), utf8_or_replaced(scalar_text(value)));
  out += fmt::format("  logs         {}/attempts\n", l.job(s.name));
  return out;
}

}  // namespace thole::local
