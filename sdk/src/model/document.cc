#include "model/document.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/job.h"
#include "model/pool.h"

namespace thole::model {
namespace {

// What a file says it is. The seed's pools said `apiVersion: v1`.
std::string kind_of(const yaml::node &root, yaml::problems &found, bool &seed) {
  const auto word = [&](std::string_view key) -> std::string {
    const yaml::node *n = root.find(key);
    if (n == nullptr) {
      found.refuse(reason::FieldMissing, root.at, key, "is missing: apiVersion: {}, kind: {} or {}", api_version,
                   job_kind, pool_kind);
      return "";
    }
    return yaml::take_text(*n, key, found).value_or("");
  };
  const std::string version = word("apiVersion");
  const std::string kind = word("kind");
  if (version.empty() || kind.empty()) return "";
  static constexpr std::string_view kinds[] = {job_kind, pool_kind};
  if (std::find(std::begin(kinds), std::end(kinds), kind) == std::end(kinds)) {
    found.refuse(reason::KindUnknown, root.find("kind")->at, "kind", "'{}' is not a kind that is read here{}",
                 kind.substr(0, 40), yaml::suggestion(kind, kinds));
    return "";
  }
  seed = version == "v1" && kind == pool_kind;
  if (version != api_version && !seed) {
    found.refuse(reason::KindUnknown, root.find("apiVersion")->at, "apiVersion", "'{}' is not known: write {}",
                 version.substr(0, 40), api_version);
    return "";
  }
  return kind;
}

void read_into(document &out, std::string_view text, std::string_view platform) {
  auto root = yaml::read(text, out.found);
  if (!root) return;
  if (!root->is_map()) {
    out.found.refuse(reason::FieldWrongType, root->at, "",
                     "a mapping is expected, here is {}: a file begins with apiVersion", yaml::name_of(root->what));
    return;
  }
  bool seed = false;
  out.kind = kind_of(*root, out.found, seed);
  if (out.kind.empty()) return;
  if (seed) *root = convert_seed_pool(std::move(*root), out.found);
  const reading in{out.found, platform};
  auto value = read_field(*description_of(out.kind), *root, "", in);
  if (!value) return;
  if (const auto metadata = value->find("metadata"); metadata != value->end() && metadata->contains("name"))
    out.name = (*metadata)["name"].get<std::string>();
  if (out.found.errors() > 0) return;
  if (out.kind == job_kind) complete_job(*value, *root, in);
  else complete_pool(*value, *root, in);
  if (out.found.errors() == 0) out.value = std::move(*value);
}

}  // namespace

const field *description_of(std::string_view kind) noexcept {
  if (kind == job_kind) return &job_description;
  if (kind == pool_kind) return &pool_description;
  return nullptr;
}

document read_document(std::string_view text, std::string_view platform) {
  document out;
  read_into(out, text, platform);
  out.found.sort();
  return out;
}

result<json> read_canonical(std::string_view text, std::string_view kind) {
  document d = read_document(text, "");
  THOLE_TRY(d.found.outcome());
  if (d.kind != kind) return fail(reason::KindUnknown, "a {} is expected, here is a {}", kind, d.kind);
  return std::move(d.value);
}

}  // namespace thole::model
