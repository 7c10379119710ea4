#include "model/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "model/metadata.h"
#include "model/native.h"

namespace thole::model {
namespace {

using enum type;

constexpr int64_t ms = 1, second = 1000 * ms, minute = 60 * second, hour = 60 * minute, day = 24 * hour;
constexpr int64_t mib = int64_t{1} << 20, pib = int64_t{1} << 50;

constexpr field device_count = {
    .name = "count", .what = integer, .doc = "How many of them a member has.", .fallback = "1", .least = 1, .most = 32};

constexpr field gpus_fields[] = {
    device_count,
    {.name = "model",
     .doc = "Only on GPUs whose model has exactly this name, such as `NVIDIA H200`.",
     .least = 1,
     .most = 253},
};
constexpr field vgpu_fields[] = {
    {.name = "memory", .what = memory, .doc = "Memory cap of each vGPU.", .required = true, .least = mib, .most = pib},
    {.name = "share",
     .what = share,
     .doc = "Part of a GPU's compute that each vGPU claims, with at most three places; 0 claims none.",
     .fallback = "0",
     .least = 0,
     .most = 1000},
    device_count,
};
constexpr field mig_fields[] = {
    {.name = "profile", .doc = "The profile's name, such as `1g.18gb`.", .required = true, .least = 1, .most = 64},
    device_count,
};

constexpr std::string_view topology_modes[] = {"required", "preferred"};
constexpr field topology_fields[] = {
    {.name = "level", .doc = "A level of the pool, or `node`.", .required = true, .least = 1, .most = 253},
    {.name = "mode",
     .what = word,
     .doc = "`required`: one domain of the level, or the gang does not fit. `preferred`: one if it can be, else the "
            "next wider level.",
     .fallback = "required",
     .words = topology_modes},
};

constexpr field role_fields[] = {
    {.name = "name", .what = name, .doc = "The role's name.", .required = true},
    {.name = "members",
     .what = integer,
     .doc = "How many members are wanted. A member is placed as one: a process here, a pod or a task elsewhere.",
     .required = true,
     .least = 1,
     .most = 65536},
    {.name = "min",
     .what = integer,
     .doc = "Fewer members than this are no gang.",
     .computed = "`members`",
     .least = 1,
     .most = 65536},
    {.name = "ranksPerMember",
     .what = integer,
     .doc = "Ranks of a member. With more than one, the command is a launcher that starts them (such as torchrun).",
     .fallback = "1",
     .least = 1,
     .most = 64},
    {.name = "gpus",
     .what = object,
     .doc = "Whole GPUs. At most one of gpus, vgpu and mig; none: no GPU.",
     .fields = gpus_fields},
    {.name = "vgpu", .what = object, .doc = "Parts of GPUs.", .fields = vgpu_fields},
    {.name = "mig", .what = object, .doc = "MIG instances.", .fields = mig_fields},
    {.name = "cpu",
     .what = cpu,
     .doc = "Cores of a member, such as 2 or 500m. Counted when members are placed; on local nothing enforces it.",
     .fallback = "1",
     .least = 0,
     .most = 1'000'000},
    {.name = "memory",
     .what = memory,
     .doc = "Memory of a member. Counted when members are placed; on local nothing enforces it.",
     .fallback = "1Gi",
     .least = mib,
     .most = pib},
    {.name = "sharedMemory",
     .what = memory,
     .doc = "Size of /dev/shm.",
     .least = mib,
     .most = pib,
     .local = "processes share the machine's /dev/shm"},
    {.name = "command",
     .what = list,
     .doc =
         "Program and arguments, one element each; no shell reads them. A program without a slash is searched in PATH.",
     .required = true,
     .least = 1,
     .most = 1024},
    {.name = "env",
     .what = map,
     .doc = "Environment of the command, in addition to what every rank finds (job-environment.md)."},
    {.name = "workdir",
     .doc = "Where the command runs. A relative path begins at the folder of the job file.",
     .fallback = ".",
     .least = 1,
     .most = 4095},
    {.name = "image",
     .doc = "Container image.",
     .least = 1,
     .most = 1024,
     .local = "there are no containers; the machine's own programs are used"},
    {.name = "topology",
     .what = list,
     .doc = "For the members of this role among themselves, outer levels first.",
     .most = 7,
     .fields = topology_fields},
};

constexpr field volume_fields[] = {
    {.name = "name", .what = name, .doc = "The name that the platform binds.", .required = true},
    {.name = "path", .doc = "Where the job finds it.", .required = true, .least = 1, .most = 4095},
    {.name = "readOnly", .what = boolean, .doc = "Whether the job may only read.", .fallback = "false"},
};

constexpr field checkpoint_fields[] = {
    {.name = "store", .what = name, .doc = "Name of the store.", .fallback = "checkpoints"},
    {.name = "key", .what = name, .doc = "Name of the key.", .computed = "the job's name"},
    {.name = "interval",
     .what = integer,
     .doc = "Train steps between two checkpoints; the script is told, and decides.",
     .fallback = "100",
     .least = 1,
     .most = 1'000'000'000},
    {.name = "keep",
     .what = integer,
     .doc = "Newest committed checkpoints that are kept.",
     .fallback = "3",
     .least = 1,
     .most = 1000},
};

constexpr field recovery_fields[] = {
    {.name = "maxIncidents",
     .what = integer,
     .doc = "Incidents after which the job is stopped.",
     .fallback = "100",
     .least = 1,
     .most = 100'000},
    {.name = "maxWithoutProgress",
     .what = integer,
     .doc = "Incidents in a row without a newer checkpoint, after which the job is stopped.",
     .fallback = "3",
     .least = 1,
     .most = 100'000},
    {.name = "maxSameCause",
     .what = integer,
     .doc = "The same, of the same cause.",
     .fallback = "2",
     .least = 1,
     .most = 100'000},
    {.name = "minDelay",
     .what = duration,
     .doc = "Wait before a restart; doubled for each incident in a row without progress.",
     .fallback = "0s",
     .least = 0,
     .most = day},
    {.name = "maxDelay", .what = duration, .doc = "The longest such wait.", .fallback = "1m", .least = 0, .most = day},
    {.name = "hangTimeout",
     .what = duration,
     .doc = "A rank that reports steps and then none for so long hangs.",
     .fallback = "10m",
     .least = 500 * ms,
     .most = 7 * day},
    {.name = "startTimeout",
     .what = duration,
     .doc = "The time from the start until the first step.",
     .fallback = "30m",
     .least = 500 * ms,
     .most = 7 * day},
};

constexpr field key_fields[] = {
    {.name = "file", .doc = "Path of a key file (`thole key new`).", .least = 1, .most = 4095},
    {.name = "helper", .what = list, .doc = "Program and arguments of a key helper (key-helper.md).", .most = 64},
};
constexpr field local_fields[] = {
    {.name = "stores",
     .what = map,
     .doc = "Folder of each store. A name that is not bound is stores/NAME of the state folder. Each run has a folder "
            "JOB-RUN in it."},
    {.name = "keys",
     .what = map,
     .doc = "File or helper of each key. A name that is not bound is a file of that name below the state folder; the "
            "first run makes it and says so.",
     .fields = key_fields},
    {.name = "volumes", .what = map, .doc = "Folder of each volume."},
};
constexpr field slurm_fields[] = {
    {.name = "options", .what = list, .doc = "sbatch options such as `--constraint=h200`, one an element.", .most = 64},
};
constexpr field kubernetes_fields[] = {
    {.name = "podPatch", .what = any, .doc = "Merged into the pods."},
};
constexpr field ray_fields[] = {
    {.name = "runtimeEnv", .what = any, .doc = "Ray's runtime_env."},
};
constexpr field platform_fields[] = {
    {.name = "local", .what = object, .doc = "How names are bound on one machine.", .fields = local_fields},
    {.name = "slurm",
     .what = object,
     .doc = "What is native to Slurm.",
     .fields = slurm_fields,
     .local = "it is for slurm"},
    {.name = "kubernetes",
     .what = object,
     .doc = "What is native to Kubernetes.",
     .fields = kubernetes_fields,
     .local = "it is for kubernetes"},
    {.name = "ray", .what = object, .doc = "What is native to Ray.", .fields = ray_fields, .local = "it is for ray"},
};

constexpr field spec_fields[] = {
    {.name = "roles",
     .what = list,
     .doc = "What the gang is made of. Ranks are numbered in this order.",
     .required = true,
     .least = 1,
     .most = 16,
     .fields = role_fields},
    {.name = "topology",
     .what = list,
     .doc = "For all members together, outer levels first.",
     .most = 7,
     .fields = topology_fields},
    {.name = "timeLimit",
     .what = duration,
     .doc = "The job is stopped after this time, all attempts together. None: no limit.",
     .least = second,
     .most = 365 * day},
    {.name = "gracePeriod",
     .what = duration,
     .doc = "Between the request to stop and the kill: the time for a last checkpoint.",
     .fallback = "30s",
     .least = 0,
     .most = hour},
    {.name = "queue",
     .doc = "Queue, partition or local queue.",
     .least = 1,
     .most = 253,
     .local = "there are no queues"},
    {.name = "priority",
     .what = integer,
     .doc = "Higher goes first.",
     .fallback = "0",
     .least = -1'000'000'000,
     .most = 1'000'000'000,
     .local = "there are no queues"},
    {.name = "account", .doc = "Who is charged.", .least = 1, .most = 253, .local = "nobody is charged"},
    {.name = "volumes",
     .what = list,
     .doc = "Data that the job wants to find at a path.",
     .most = 64,
     .fields = volume_fields,
     .local = "a process sees the machine's own files"},
    {.name = "stores",
     .what = list,
     .doc = "Names of stores; the platform binds them.",
     .computed = "that of checkpoint",
     .most = 16,
     .element = name},
    {.name = "keys",
     .what = list,
     .doc = "Names of keys; the platform binds them. A key itself never stands in a job file.",
     .computed = "that of checkpoint",
     .most = 16,
     .element = name},
    {.name = "checkpoint",
     .what = object,
     .doc = "Without it the job has no store and no key.",
     .fields = checkpoint_fields},
    {.name = "recovery",
     .what = object,
     .doc = "When an incident ends the job, and when it is started again.",
     .fallback = "{}",
     .fields = recovery_fields},
    {.name = "platforms",
     .what = object,
     .doc = "What is native to a platform, and how it binds names. It may not override what the job says.",
     .fallback = "{}",
     .fields = platform_fields},
};

constexpr field job_fields[] = {
    api_version_field,
    kind_field,
    metadata_field,
    {.name = "spec", .what = object, .doc = "What is wanted.", .required = true, .fields = spec_fields},
    status_field,
};

// --- What no single field can say. --------------------------------------------------------------------------------

void check_topology(const json &levels, const yaml::node *n, const std::string &path, const reading &in) {
  std::set<std::string> seen;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto level = levels[i]["level"].get<std::string>();
    const yaml::place at = n->children[i].at;
    if (!seen.insert(level).second)
      in.found.refuse(reason::RolesContradict, at, yaml::join(path, i), "the level '{}' stands twice: keep one", level);
    if (level == "cluster")
      in.found.refuse(reason::FieldBad, at, yaml::join(path, i), "every gang lies in one cluster: remove it");
    if (level == "node" && i + 1 < levels.size())
      in.found.refuse(reason::RolesContradict, at, yaml::join(path, i),
                      "'node' is the innermost level and stands last: outer levels come first");
  }
}

void check_environment(const yaml::node &role, const std::string &path, const reading &in) {
  const yaml::node *env = role.find("env");
  if (env == nullptr) return;
  for (const yaml::node &n : env->children) {
    const std::string at = yaml::join(yaml::join(path, "env"), n.key);
    if (!is_environment_name(n.key))
      in.found.refuse(reason::FieldBad, n.key_at, at, "is no name of a variable: letters, digits and '_'");
    else if (is_own_variable(n.key))
      in.found.refuse(reason::NativeOverrides, n.key_at, at, "is set by Thole for every rank: remove it");
  }
}

void complete_role(json &role, const yaml::node &n, const std::string &path, const reading &in) {
  const auto members = role["members"].get<int64_t>();
  if (role["min"].is_null()) role["min"] = members;
  if (role["min"].get<int64_t>() > members)
    in.found.refuse(reason::RolesContradict, n.find("min")->at, yaml::join(path, "min"),
                    "min {} is more than members {}: at most as many can be asked for", role["min"].get<int64_t>(),
                    members);
  const yaml::node *first = nullptr;
  for (std::string_view kind : {"gpus", "vgpu", "mig"}) {
    const yaml::node *given = n.find(kind);
    if (given == nullptr) continue;
    if (first != nullptr)
      in.found.refuse(reason::RolesContradict, given->key_at, yaml::join(path, kind),
                      "a member has one kind of device, and '{}' stands above: keep one of them", first->key);
    else first = given;
  }
  if (const yaml::node *t = n.find("topology")) check_topology(role["topology"], t, yaml::join(path, "topology"), in);
  check_environment(n, path, in);
  const auto program = role["command"][0].get<std::string>();
  if (program.empty())
    in.found.refuse(reason::FieldBad, n.find("command")->children[0].at, yaml::join(path, "command[0]"),
                    "the program's name is empty");
}

void complete_roles(json &roles, const yaml::node &n, const reading &in) {
  std::set<std::string> names;
  int64_t members = 0;
  for (std::size_t i = 0; i < roles.size(); ++i) {
    const std::string path = yaml::join("spec.roles", i);
    complete_role(roles[i], n.children[i], path, in);
    const auto role = roles[i]["name"].get<std::string>();
    if (!names.insert(role).second)
      in.found.refuse(reason::RolesContradict, n.children[i].find("name")->at, yaml::join(path, "name"),
                      "another role is named '{}'", role);
    members += roles[i]["members"].get<int64_t>();
  }
  if (members > 65536)
    in.found.refuse(reason::FieldBad, n.at, "spec.roles", "{} members; a gang has 65536 at most", members);
}

// `names` with the one that checkpoint uses; where the file lists names, checkpoint's must be among them.
void complete_names(json &names, const json *used, const yaml::node *list, std::string_view path, const reading &in) {
  const bool given = !names.is_null();
  if (!given) names = json::array();
  std::set<std::string> seen;
  for (std::size_t i = 0; i < names.size(); ++i)
    if (!seen.insert(names[i].get<std::string>()).second)
      in.found.refuse(reason::FieldBad, list->children[i].at, yaml::join(path, i), "'{}' stands twice: keep one",
                      names[i].get<std::string>());
  if (used == nullptr || seen.contains(used->get<std::string>())) return;
  if (given)
    in.found.refuse(reason::FieldMissing, list->at, path, "checkpoint uses '{}', which is not among these names",
                    used->get<std::string>());
  names.push_back(*used);
}

void check_bindings(const json &spec, const yaml::node &root, const reading &in) {
  const yaml::node *local = find(root, {"spec", "platforms", "local"});
  if (local == nullptr) return;
  for (std::string_view what : {"stores", "keys", "volumes"}) {
    const yaml::node *bound = local->find(what);
    if (bound == nullptr) continue;
    std::vector<std::string> known;
    for (const json &n : spec[std::string(what)])
      known.push_back(n.is_object() ? n["name"].get<std::string>() : n.get<std::string>());
    const std::vector<std::string_view> words(known.begin(), known.end());
    for (const yaml::node &n : bound->children) {
      const std::string path = fmt::format("spec.platforms.local.{}.{}", what, n.key);
      if (std::find(known.begin(), known.end(), n.key) == known.end())
        in.found.refuse(reason::FieldUnknown, n.key_at, path, "the job names nothing so in spec.{}{}", what,
                        yaml::suggestion(n.key, words));
      if (what == "keys" &&
          (n.find("file") == nullptr) == (n.find("helper") == nullptr || n.find("helper")->children.empty()))
        in.found.refuse(reason::FieldBad, n.at, path, "either file or helper is expected");
    }
  }
}

}  // namespace

constinit const field job_description = {.name = "TrainingJob", .what = object, .fields = job_fields};

void complete_job(json &job, const yaml::node &root, const reading &in) {
  json &spec = job["spec"];
  const yaml::node &n = *root.find("spec");
  complete_roles(spec["roles"], *n.find("roles"), in);
  if (const yaml::node *t = n.find("topology")) check_topology(spec["topology"], t, "spec.topology", in);
  const json *store = nullptr;
  const json *key = nullptr;
  if (const auto c = spec.find("checkpoint"); c != spec.end()) {
    if ((*c)["key"].is_null()) (*c)["key"] = job["metadata"]["name"];
    store = &(*c)["store"];
    key = &(*c)["key"];
  }
  complete_names(spec["stores"], store, n.find("stores"), "spec.stores", in);
  complete_names(spec["keys"], key, n.find("keys"), "spec.keys", in);
  check_bindings(spec, root, in);
  if (const yaml::node *platforms = n.find("platforms")) check_native(*platforms, in);
}

}  // namespace thole::model
