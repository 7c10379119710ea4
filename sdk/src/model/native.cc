#include "model/native.h"

#include <algorithm>
#include <utility>

namespace thole::model {
namespace {

struct owned {
  std::string_view native;
  std::string_view ours;
};

// sbatch options, in both spellings.
constexpr owned slurm_options[] = {
    {"--nodes", "roles[].members"},
    {"-N", "roles[].members"},
    {"--ntasks", "roles[].members"},
    {"-n", "roles[].members"},
    {"--ntasks-per-node", "roles[].ranksPerMember"},
    {"--gres", "roles[].gpus, vgpu or mig"},
    {"--gpus", "roles[].gpus"},
    {"-G", "roles[].gpus"},
    {"--gpus-per-node", "roles[].gpus"},
    {"--gpus-per-task", "roles[].gpus"},
    {"--cpus-per-task", "roles[].cpu"},
    {"-c", "roles[].cpu"},
    {"--mem", "roles[].memory"},
    {"--mem-per-cpu", "roles[].memory"},
    {"--mem-per-gpu", "roles[].memory"},
    {"--time", "timeLimit"},
    {"-t", "timeLimit"},
    {"--job-name", "metadata.name"},
    {"-J", "metadata.name"},
    {"--account", "account"},
    {"-A", "account"},
    {"--priority", "priority"},
    {"--partition", "queue"},
    {"-p", "queue"},
    {"--chdir", "roles[].workdir"},
    {"-D", "roles[].workdir"},
    {"--export", "roles[].env"},
    {"--requeue", "recovery"},
    {"--no-requeue", "recovery"},
    {"--signal", "gracePeriod"},
    {"--array", "roles[].members"},
    {"-a", "roles[].members"},
    {"--wrap", "roles[].command"},
};

constexpr owned pod_fields[] = {
    {"metadata.name", "metadata.name"},
    {"spec.restartPolicy", "recovery"},
    {"spec.schedulerName", "the platform's scheduler"},
    {"spec.nodeName", "topology"},
    {"spec.activeDeadlineSeconds", "timeLimit"},
    {"spec.terminationGracePeriodSeconds", "gracePeriod"},
    {"spec.priorityClassName", "priority"},
    {"spec.schedulingGates", "the platform's scheduler"},
};
constexpr owned container_fields[] = {
    {"command", "roles[].command"}, {"args", "roles[].command"},       {"resources", "roles[]"},
    {"image", "roles[].image"},     {"workingDir", "roles[].workdir"},
};

void refuse(const yaml::node &n, const std::string &path, std::string_view ours, const reading &in) {
  in.found.refuse(reason::NativeOverrides, n.key_at, path, "overrides what the job says: set {} instead", ours);
}

void check_slurm(const yaml::node &block, const reading &in) {
  const yaml::node *options = block.find("options");
  if (options == nullptr) return;
  for (std::size_t i = 0; i < options->children.size(); ++i) {
    const yaml::node &n = options->children[i];
    const std::string path = yaml::join("spec.platforms.slurm.options", i);
    const std::string_view text = n.text;
    if (!text.starts_with('-')) {
      in.found.refuse(reason::FieldBad, n.at, path, "an option such as --constraint=h200 is expected, in one element");
      continue;
    }
    // "--mem=1G", "-N2", "-N 2": the option alone.
    std::string_view word = text.substr(0, text.find_first_of("= "));
    if (!word.starts_with("--")) word = word.substr(0, 2);
    for (const owned &o : slurm_options)
      if (o.native == word) refuse(n, path, o.ours, in);
  }
}

void check_variables(const yaml::node &env, const std::string &path, const reading &in) {
  // A mapping (Ray), or a sequence of {name, value} (Kubernetes).
  for (const yaml::node &n : env.children) {
    const yaml::node *name = n.is_map() && env.is_sequence() ? n.find("name") : nullptr;
    const std::string_view word = name == nullptr ? n.key : name->text;
    if (is_own_variable(word))
      in.found.refuse(reason::NativeOverrides, name == nullptr ? n.key_at : name->at, yaml::join(path, word),
                      "is set by Thole for every rank: remove it");
  }
}

void check_containers(const yaml::node &list, const std::string &path, const reading &in) {
  for (std::size_t i = 0; i < list.children.size(); ++i) {
    const yaml::node &container = list.children[i];
    const yaml::node *name = container.find("name");
    // A sidecar is the user's own.
    if (name == nullptr || name->text != "main") continue;
    const std::string at = yaml::join(path, i);
    for (const owned &o : container_fields)
      if (const yaml::node *n = container.find(o.native)) refuse(*n, yaml::join(at, o.native), o.ours, in);
    if (const yaml::node *env = container.find("env")) check_variables(*env, yaml::join(at, "env"), in);
  }
}

void check_kubernetes(const yaml::node &block, const reading &in) {
  const yaml::node *patch = block.find("podPatch");
  if (patch == nullptr) return;
  const std::string path = "spec.platforms.kubernetes.podPatch";
  if (!patch->is_map()) {
    in.found.refuse(reason::FieldWrongType, patch->at, path, "a mapping is expected");
    return;
  }
  for (const owned &o : pod_fields) {
    const std::size_t dot = o.native.find('.');
    if (const yaml::node *n = find(*patch, {o.native.substr(0, dot), o.native.substr(dot + 1)}))
      refuse(*n, yaml::join(path, o.native), o.ours, in);
  }
  if (const yaml::node *list = find(*patch, {"spec", "containers"}))
    check_containers(*list, yaml::join(path, "spec.containers"), in);
}

void check_ray(const yaml::node &block, const reading &in) {
  const yaml::node *env = block.find("runtimeEnv");
  if (env == nullptr) return;
  const std::string path = "spec.platforms.ray.runtimeEnv";
  if (!env->is_map()) {
    in.found.refuse(reason::FieldWrongType, env->at, path, "a mapping is expected");
    return;
  }
  if (const yaml::node *n = env->find("working_dir"))
    refuse(*n, yaml::join(path, "working_dir"), "roles[].workdir", in);
  for (std::string_view image : {"container", "image_uri"})
    if (const yaml::node *n = env->find(image)) refuse(*n, yaml::join(path, image), "roles[].image", in);
  if (const yaml::node *n = env->find("env_vars")) check_variables(*n, yaml::join(path, "env_vars"), in);
}

}  // namespace

bool is_environment_name(std::string_view name) noexcept {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (name.empty() || !letter(name[0])) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

bool is_own_variable(std::string_view name) noexcept {
  static constexpr std::string_view own[] = {"RANK",      "WORLD_SIZE",  "LOCAL_RANK",  "LOCAL_WORLD_SIZE",
                                             "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES"};
  return name.starts_with("THOLE_") || std::find(std::begin(own), std::end(own), name) != std::end(own);
}

void check_native(const yaml::node &platforms, const reading &in) {
  if (const yaml::node *n = platforms.find("slurm")) check_slurm(*n, in);
  if (const yaml::node *n = platforms.find("kubernetes")) check_kubernetes(*n, in);
  if (const yaml::node *n = platforms.find("ray")) check_ray(*n, in);
}

}  // namespace thole::model
