#include "core/documents.h"

#include <cctype>
#include <cmath>

#include "base/files.h"
#include "base/text.h"

namespace thole::local {
namespace {

using json = nlohmann::ordered_json;
constexpr std::size_t most_file_bytes = 1u << 20;

remark own_note(const thole_note &n) {
  return {n.line, n.column, own(n.field), own(n.reason), own(n.message), n.error != 0};
}

// "1h30m", "500ms", "30s"; a number counts seconds.
int64_t duration_ns(const json &value) {
  if (value.is_number()) return std::llround(value.get<double>() * 1e9);
  if (!value.is_string()) return 0;
  const std::string text = value.get<std::string>();
  double total = 0;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t used = 0;
    const double amount = std::stod(text.substr(at), &used);
    at += used;
    std::size_t end = at;
    while (end < text.size() && std::isalpha(static_cast<unsigned char>(text[end])) != 0) ++end;
    const std::string unit = text.substr(at, end - at);
    const double seconds = unit == "ms" ? 1e-3 : unit == "m" ? 60 : unit == "h" ? 3600 : unit == "d" ? 86400 : 1;
    total += amount * seconds;
    at = end;
  }
  return std::llround(total * 1e9);
}

const json &member(const json &object, const char *name) {
  static const json none;
  if (!object.is_object()) return none;
  const auto at = object.find(name);
  return at == object.end() ? none : *at;
}

std::string text_or(const json &value, std::string otherwise = {}) {
  return value.is_string() ? value.get<std::string>() : std::move(otherwise);
}

template <class T>
T number_or(const json &value, T otherwise) {
  return value.is_number() ? value.get<T>() : otherwise;
}

role_spec role_from(const json &in) {
  role_spec r;
  r.name = text_or(member(in, "name"));
  r.members = number_or<uint32_t>(member(in, "members"), 1);
  r.ranks_per_member = number_or<uint32_t>(member(in, "ranksPerMember"), 1);
  r.wants_devices = member(in, "gpus").is_object() || member(in, "vgpu").is_object() || member(in, "mig").is_object();
  r.command = in.at("command").get<std::vector<std::string>>();
  const json &env = member(in, "env");
  if (env.is_object())
    for (const auto &[name, value] : env.items()) r.environment[name] = text_or(value);
  if (env.is_array())
    for (const json &one : env) r.environment[one.at("name").get<std::string>()] = text_or(member(one, "value"));
  r.workdir = text_or(member(in, "workdir"));
  return r;
}

}  // namespace

result<document> read_document(const library &core, const std::string &text, const std::string &name) {
  THOLE_LET(const auto *job, core.job());
  answer_room room;
  document d;
  auto out = sized<thole_document>();
  auto read = call_with_room(room, [&](thole_buffer *b, thole_status *s) {
    return job->read(core.core(), borrow(text), THOLE_STR("local"), &out, b, s);
  });
  each<thole_note>(out.notes, [&](const thole_note &n) { d.remarks.push_back(own_note(n)); });
  if (!read) {
    problem p = read.error();
    p.message = name + ": " + p.message;
    p.remarks = std::move(d.remarks);
    return tl::unexpected(std::move(p));
  }
  d.kind = own(out.kind);
  d.name = own(out.name);
  d.text = own(out.json);
  return d;
}

result<document> read_document_file(const library &core, const std::string &path) {
  auto text = read_file(path, most_file_bytes + 1);
  if (!text) {
    problem p = text.error();
    p.code = exists(path) ? p.code : THOLE_NOT_FOUND;
    return tl::unexpected(std::move(p));
  }
  return read_document(core, *text, path);
}

bool job_spec::wants_devices() const {
  for (const role_spec &r : roles)
    if (r.wants_devices) return true;
  return false;
}

result<job_spec> job_spec_from(const std::string &canonical) {
  try {
    const json in = json::parse(canonical);
    const json &spec = in.at("spec");
    job_spec j;
    j.name = in.at("metadata").at("name").get<std::string>();
    for (const json &role : spec.at("roles")) j.roles.push_back(role_from(role));
    j.time_limit_ns = duration_ns(member(spec, "timeLimit"));
    j.grace_ns = duration_ns(member(spec, "gracePeriod"));
    const json &checkpoint = member(spec, "checkpoint");
    if (checkpoint.is_object()) {
      j.has_checkpoint = true;
      j.store = text_or(member(checkpoint, "store"));
      j.key = text_or(member(checkpoint, "key"));
      j.interval = number_or<uint64_t>(member(checkpoint, "interval"), 0);
      j.keep = number_or<uint32_t>(member(checkpoint, "keep"), 0);
    }
    const json &recovery = member(spec, "recovery");
    if (recovery.is_object()) {
      j.max_incidents = number_or<uint32_t>(member(recovery, "maxIncidents"), 0);
      j.max_without_progress = number_or<uint32_t>(member(recovery, "maxWithoutProgress"), 0);
      j.max_same_cause = number_or<uint32_t>(member(recovery, "maxSameCause"), 0);
      j.min_delay_ns = duration_ns(member(recovery, "minDelay"));
      j.max_delay_ns = duration_ns(member(recovery, "maxDelay"));
      j.hang_timeout_ns = duration_ns(member(recovery, "hangTimeout"));
      j.start_timeout_ns = duration_ns(member(recovery, "startTimeout"));
    }
    return j;
  } catch (const std::exception &e) {
    return fail(reason::Defect, "the canonical job is not what this command expects: {}", e.what());
  }
}

bool pool_is_simulated(const std::string &canonical) {
  const json in = json::parse(canonical, nullptr, false);
  if (!in.is_object()) return false;
  const json &simulated = member(member(in, "spec"), "simulated");
  return simulated.is_boolean() && simulated.get<bool>();
}

namespace {
json local_block(const std::string &canonical, const char *kind, const std::string &name) {
  const json in = json::parse(canonical, nullptr, false);
  if (!in.is_object()) return {};
  return member(member(member(member(member(in, "spec"), "platforms"), "local"), kind), name.c_str());
}
}  // namespace

std::string bound_store(const std::string &canonical, const std::string &name) {
  return text_or(local_block(canonical, "stores", name));
}

key_binding bound_key(const std::string &canonical, const std::string &name) {
  const json block = local_block(canonical, "keys", name);
  key_binding key;
  key.file = text_or(member(block, "file"));
  if (const json &helper = member(block, "helper"); helper.is_array())
    key.helper = helper.get<std::vector<std::string>>();
  return key;
}

}  // namespace thole::local
