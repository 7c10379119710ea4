#include "job.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "files.h"

namespace thole::slurm {
namespace {

using json = nlohmann::ordered_json;

const json &at(const json &object, const char *name) {
  static const json none;
  if (!object.is_object()) return none;
  const auto found = object.find(name);
  return found == object.end() ? none : *found;
}

std::string text(const json &value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

template <class T>
T integer(const json &value, T otherwise) {
  return value.is_number() ? value.get<T>() : otherwise;
}

// The canonical form of a quantity: a number and a unit.
double amount(const json &value, const std::map<std::string, double> &units) {
  if (value.is_number()) return value.get<double>();
  const std::string t = text(value);
  if (t.empty()) return 0;
  std::size_t used = 0;
  const double n = std::stod(t, &used);
  const auto unit = units.find(t.substr(used));
  return unit == units.end() ? n : n * unit->second;
}

uint64_t mebibytes(const json &value) {
  const double kib = 1024;
  const double k = 1000;
  const double bytes = amount(value, {{"Ki", kib},
                                      {"Mi", kib * kib},
                                      {"Gi", std::pow(kib, 3)},
                                      {"Ti", std::pow(kib, 4)},
                                      {"Pi", std::pow(kib, 5)},
                                      {"k", k},
                                      {"M", k * k},
                                      {"G", std::pow(k, 3)},
                                      {"T", std::pow(k, 4)},
                                      {"P", std::pow(k, 5)}});
  return static_cast<uint64_t>(std::ceil(bytes / (kib * kib)));
}

uint64_t seconds(const json &value) {
  return static_cast<uint64_t>(
      std::ceil(amount(value, {{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}})));
}

result<> read_role(const json &role, training_job &job) {
  job.members = integer<uint32_t>(at(role, "members"), 1);
  job.ranks_per_member = integer<uint32_t>(at(role, "ranksPerMember"), 1);
  if (integer<uint32_t>(at(role, "min"), job.members) != job.members)
    return fail(reason::RolesContradict, "Slurm starts all members of a job or none: remove spec.roles[0].min");
  if (at(role, "mig").is_object())
    return fail(reason::NoMig, "MIG instances are Slurm's own gres: ask for them in spec.platforms.slurm.options");
  if (const json &gpus = at(role, "gpus"); gpus.is_object()) {
    job.gpus = integer<uint32_t>(at(gpus, "count"), 1);
    if (at(gpus, "model").is_string())
      job.ignored.push_back("spec.roles[0].gpus.model: use --constraint or a gres type");
  }
  if (const json &vgpu = at(role, "vgpu"); vgpu.is_object()) {
    if (integer<uint32_t>(at(vgpu, "count"), 1) != 1)
      return fail(reason::RolesContradict, "on Slurm a member has one vGPU: set spec.roles[0].vgpu.count to 1");
    job.vgpu_mib = mebibytes(at(vgpu, "memory"));
    job.share_milli = static_cast<uint32_t>(std::lround(amount(at(vgpu, "share"), {}) * 1000));
  }
  job.cpus = std::max<uint32_t>(1, static_cast<uint32_t>(std::ceil(amount(at(role, "cpu"), {{"m", 1e-3}}))));
  job.memory_mib = mebibytes(at(role, "memory"));
  job.command = at(role, "command").get<std::vector<std::string>>();
  if (const json &env = at(role, "env"); env.is_object())
    for (const auto &[name, value] : env.items()) job.environment[name] = text(value);
  job.workdir = text(at(role, "workdir"));
  for (const char *name : {"image", "sharedMemory"})
    if (!at(role, name).is_null()) job.ignored.push_back(fmt::format("spec.roles[0].{}: has no effect on Slurm", name));
  return {};
}

result<> read_topology(const json &levels, training_job &job) {
  if (!levels.is_array()) return {};
  for (const json &level : levels) {
    const bool required = text(at(level, "mode")) != "preferred";
    if (required && text(at(level, "level")) != "node")
      return fail(reason::TopologyUnknown,
                  "on Slurm only the level `node` can be required; for others use --switches in "
                  "spec.platforms.slurm.options");
    job.one_node = job.one_node || required;
    if (!required) job.ignored.push_back("spec.topology: Slurm chooses by its own topology plugin");
  }
  return {};
}

void read_checkpoint(const json &spec, training_job &job) {
  const json &checkpoint = at(spec, "checkpoint");
  if (checkpoint.is_object()) {
    job.has_checkpoint = true;
    job.store = text(at(checkpoint, "store"));
    job.key = text(at(checkpoint, "key"));
    job.interval = integer<uint64_t>(at(checkpoint, "interval"), 0);
    job.keep = integer<uint32_t>(at(checkpoint, "keep"), 0);
  }
  const json &recovery = at(spec, "recovery");
  job.max_incidents = integer<uint32_t>(at(recovery, "maxIncidents"), 0);
  job.max_without_progress = integer<uint32_t>(at(recovery, "maxWithoutProgress"), 0);
  job.max_same_cause = integer<uint32_t>(at(recovery, "maxSameCause"), 0);
}

result<std::string> canonical(const core &c, const std::string &path, std::string &name) {
  THOLE_LET(const std::string source, read_file(path));
  std::vector<uint64_t> room;
  auto document = sized<thole_document>();
  auto read = call_with_room(room, [&](thole_buffer *b, thole_status *s) {
    return c.root().job->read(c.handle(), borrow(source), THOLE_STR(""), &document, b, s);
  });
  if (!read) {
    problem p = read.error();
    p.message = path + ": " + p.message;
    return tl::unexpected(std::move(p));
  }
  if (own(document.kind) != "TrainingJob")
    return fail(reason::KindUnknown, "{} is a {}: a TrainingJob is wanted here", path, own(document.kind));
  name = own(document.name);
  return own(document.json);
}

}  // namespace

result<training_job> read_job(const core &c, const std::string &path) {
  training_job job;
  THOLE_LET(const std::string all, canonical(c, path, job.name));
  job.folder = std::filesystem::path(absolute(path)).parent_path().string();
  const json document = json::parse(all);
  const json &spec = at(document, "spec");
  const json &roles = at(spec, "roles");
  if (roles.size() != 1)
    return fail(reason::RolesContradict, "{} has {} roles: on Slurm this version submits jobs of one role", path,
                roles.size());
  THOLE_TRY(read_role(roles[0], job));
  THOLE_TRY(read_topology(at(roles[0], "topology"), job));
  THOLE_TRY(read_topology(at(spec, "topology"), job));
  read_checkpoint(spec, job);
  job.time_limit = seconds(at(spec, "timeLimit"));
  job.grace = seconds(at(spec, "gracePeriod"));
  job.queue = text(at(spec, "queue"));
  job.account = text(at(spec, "account"));
  if (integer<int64_t>(at(spec, "priority"), 0) != 0)
    job.ignored.push_back("spec.priority: Slurm computes its own; use --nice");
  if (at(spec, "volumes").is_array() && !at(spec, "volumes").empty())
    job.ignored.push_back("spec.volumes: a process sees the node's own files");
  if (const json &options = at(at(at(spec, "platforms"), "slurm"), "options"); options.is_array())
    job.options = options.get<std::vector<std::string>>();
  return job;
}

result<shape> shape_of(const training_job &job, uint32_t wanted, uint64_t shard_mib, uint64_t largest_mib) {
  if (job.one_node) wanted = 1;
  if (wanted > 0 && job.members % wanted != 0)
    return fail(reason::RequestBad, "{} members do not divide evenly onto {} nodes: choose --nodes so that they do",
                job.members, wanted);
  if (job.vgpu_mib == 0 || shard_mib == 0) return shape{wanted, wanted > 0 ? job.members / wanted : 0};
  const uint64_t of_gpu = largest_mib / shard_mib;
  const uint64_t each = std::max((job.vgpu_mib + shard_mib - 1) / shard_mib, (job.share_milli * of_gpu + 999) / 1000);
  if (each > of_gpu)
    return fail(reason::DeviceTooSmall, "a vGPU of {} MiB is larger than any GPU here: the largest has {} MiB",
                job.vgpu_mib, largest_mib);
  const uint64_t fits = of_gpu / each;
  if (wanted > 0 && job.members / wanted > fits)
    return fail(reason::DeviceTooSmall,
                "{} vGPUs of {} MiB do not fit one GPU of {} MiB, and those of a node share one: use "
                "more than {} nodes",
                job.members / wanted, job.vgpu_mib, largest_mib, wanted);
  uint32_t tasks = wanted > 0 ? job.members / wanted : 1;
  if (wanted == 0)
    for (uint32_t k = 2; k <= fits && k <= job.members; ++k)
      if (job.members % k == 0) tasks = k;
  return shape{job.members / tasks, tasks};
}

}  // namespace thole::slurm
