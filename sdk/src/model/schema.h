// model/schema.h: one description of a kind of file. It reads files, fills defaults, and writes the JSON Schema and the
// table of fields in docs/reference/job-file.md.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/yaml.h"

namespace thole::model {

// Keys stay in the order of the description: a canonical file reads as a person would write it.
using json = nlohmann::ordered_json;

enum class type : uint8_t {
  object,
  list,
  map,  // of names that the writer chooses
  text,
  name,  // as Kubernetes has it: lower-case letters, digits and '-'
  word,  // one of `words`
  integer,
  boolean,
  memory,
  duration,
  cpu,
  share,
  any,      // native: handed on as it is
  dropped,  // the cluster's own: read and forgotten
};

struct field {
  std::string_view name = {};
  type what = type::text;
  std::string_view doc = {};
  bool required = false;
  std::string_view fallback = {};  // as a person would write it; empty: none
  std::string_view computed = {};  // in words, where the default comes from other fields; filled by the kind's own code
  int64_t least = 0;               // of an integer, of a list's elements; bytes, milliseconds, thousandths
  int64_t most = 0;                // 0: no bound of its own
  type element = type::text;       // of a list or a map
  std::span<const field> fields = {};  // of an object, or of the objects in a list or map
  std::span<const std::string_view> words = {};
  std::string_view local = {};  // why the local platform ignores it; empty: it is honoured
};

struct reading {
  yaml::problems &found;
  std::string_view platform;  // "" is all
};

// The canonical value of `n` as `f` describes it. Nothing where it cannot be; the errors are in `in.found`.
std::optional<json> read_field(const field &f, const yaml::node &n, const std::string &path, const reading &in);

// A file in the one canonical form: every reader of YAML 1.2 or JSON reads it the same, and so do we.
std::string canonical_text(const json &value);

// JSON Schema 2020-12, within what Kubernetes calls structural.
json json_schema(const field &root);
// Rows of a Markdown table: field, type, default, bounds, meaning, local.
std::string field_table(const field &root);

// nullptr if it is a legal name, else what is wrong with it.
const char *name_problem(std::string_view name, std::size_t most) noexcept;

// The node at a path of keys below `from`, or nullptr.
const yaml::node *find(const yaml::node &from, std::initializer_list<std::string_view> keys) noexcept;

}  // namespace thole::model
