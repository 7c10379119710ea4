// What is written out of a description: canonical files, the JSON Schema, the table of fields.
#include <fmt/format.h>

#include "model/quantity.h"
#include "model/schema.h"

namespace thole::model {
namespace {

// As JSON, and without a character in which readers of YAML see a line break or refuse the file.
void write_string(std::string &out, std::string_view s) {
  out.push_back('"');
  for (std::size_t i = 0; i < s.size(); ++i) {
    const auto c = static_cast<unsigned char>(s[i]);
    const std::string_view rest = s.substr(i);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(s[i]);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c < 0x20 || c == 0x7F) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else if (rest.starts_with("\xC2\x85")) {
      out += "\\u0085", i += 1;
    } else if (rest.starts_with("\xE2\x80\xA8") || rest.starts_with("\xE2\x80\xA9")) {
      out += rest[2] == '\xA8' ? "\\u2028" : "\\u2029", i += 2;
    } else if (rest.starts_with("\xEF\xBB\xBF")) {
      out += "\\ufeff", i += 2;
    } else {
      out.push_back(s[i]);
    }
  }
  out.push_back('"');
}

void write(std::string &out, const json &value, int depth) {
  const std::string indent(static_cast<std::size_t>(depth + 1) * 2, ' ');
  const std::string closing(static_cast<std::size_t>(depth) * 2, ' ');
  if (value.is_string()) return write_string(out, value.get_ref<const std::string &>());
  if (!value.is_structured()) {
    std::string text = value.dump();
    // 1e+20 and the like are numbers to JSON, but not to every reader of YAML.
    if (text.find('e') != text.npos && value.is_number_float()) text = fmt::format("{:f}", value.get<double>());
    out += text;
    return;
  }
  if (value.empty()) {
    out += value.is_array() ? "[]" : "{}";
    return;
  }
  out.push_back(value.is_array() ? '[' : '{');
  const char *comma = "\n";
  for (auto it = value.begin(); it != value.end(); ++it) {
    out += comma;
    out += indent;
    if (value.is_object()) {
      write_string(out, it.key());
      out += ": ";
    }
    write(out, *it, depth + 1);
    comma = ",\n";
  }
  out += "\n" + closing;
  out.push_back(value.is_array() ? ']' : '}');
}

constexpr std::string_view memory_pattern = "^[0-9]+(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)$";
constexpr std::string_view duration_pattern = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

json schema_of(const field &f);

json element_schema(const field &f) {
  field element = f;
  element.what = f.fields.empty() ? f.element : type::object;
  element.doc = {};
  element.fallback = {};
  element.least = 0;
  element.most = element.what == type::integer ? 65535 : 0;
  return schema_of(element);
}

void object_schema(json &out, const field &f) {
  out["type"] = "object";
  json required = json::array();
  json properties = json::object();
  for (const field &part : f.fields) {
    properties[std::string(part.name)] = schema_of(part);
    if (part.required) required.push_back(part.name);
  }
  if (!required.empty()) out["required"] = required;
  out["properties"] = properties;
}

void string_schema(json &out, std::string_view pattern) {
  out["type"] = "string";
  if (!pattern.empty()) out["pattern"] = pattern;
}

json schema_of(const field &f) {
  json out = json::object();
  if (!f.doc.empty()) out["description"] = f.doc;
  switch (f.what) {
    case type::object:
      object_schema(out, f);
      break;
    case type::list:
      out["type"] = "array";
      if (f.least > 0) out["minItems"] = f.least;
      if (f.most > 0) out["maxItems"] = f.most;
      out["items"] = element_schema(f);
      break;
    case type::map:
      out["type"] = "object";
      out["additionalProperties"] = element_schema(f);
      break;
    case type::name:
      string_schema(out, "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$");
      out["maxLength"] = f.most == 0 ? 52 : f.most;
      break;
    case type::text:
      string_schema(out, "");
      if (f.least > 0) out["minLength"] = f.least;
      if (f.most > 0) out["maxLength"] = f.most;
      break;
    case type::word:
      string_schema(out, "");
      out["enum"] = json::array();
      for (std::string_view w : f.words) out["enum"].push_back(w);
      break;
    case type::memory:
      string_schema(out, memory_pattern);
      break;
    case type::duration:
      string_schema(out, duration_pattern);
      break;
    // An x-kubernetes-int-or-string is a whole number or a string, and a structural schema can say no more.
    case type::cpu:
    case type::share:
      out["x-kubernetes-preserve-unknown-fields"] = true;
      out["anyOf"] = json::array({{{"type", "number"}}, {{"type", "string"}}});
      break;
    case type::integer:
      out["type"] = "integer";
      out["minimum"] = f.least;
      out["maximum"] = f.most;
      break;
    case type::boolean:
      out["type"] = "boolean";
      break;
    case type::any:
    case type::dropped:
      out["x-kubernetes-preserve-unknown-fields"] = true;
      break;
  }
  if (!f.fallback.empty()) {
    if (f.what == type::integer || f.what == type::boolean) out["default"] = json::parse(f.fallback);
    else if (f.what != type::object) out["default"] = f.fallback;
    else out["default"] = json::object();
  }
  return out;
}

std::string_view type_name(type t) noexcept {
  static constexpr std::string_view names[] = {"object",  "list",   "map",      "text", "name",  "word",   "integer",
                                               "boolean", "memory", "duration", "cpu",  "share", "native", ""};
  return names[static_cast<std::size_t>(t)];
}

std::string shown_type(const field &f) {
  const std::string_view element = f.fields.empty() ? type_name(f.element) : "object";
  if (f.what == type::list) return fmt::format("list of {}", element);
  if (f.what == type::map) return fmt::format("map of {}", element);
  if (f.what == type::word) return fmt::format("{}", fmt::join(f.words, ", "));
  return std::string(type_name(f.what));
}

std::string shown_bounds(const field &f) {
  switch (f.what) {
    case type::memory:
      return fmt::format("{} to {}", memory_text(f.least), memory_text(f.most));
    case type::duration:
      return fmt::format("{} to {}", duration_text(f.least), duration_text(f.most));
    case type::cpu:
      return fmt::format("{} to {}", cpu_text(f.least), cpu_text(f.most));
    case type::share:
      return fmt::format("{} to {}", share_text(f.least), share_text(f.most));
    case type::integer:
      return fmt::format("{} to {}", f.least, f.most);
    case type::list:
      return f.most == 0 ? "" : fmt::format("{} to {} elements", f.least, f.most);
    case type::name:
      return fmt::format("{} characters", f.most == 0 ? 52 : f.most);
    case type::text:
      return f.most == 0 ? "" : fmt::format("{} bytes", f.most);
    default:
      return "";
  }
}

void rows(std::string &out, const field &f, const std::string &path) {
  for (const field &part : f.fields) {
    if (part.what == type::dropped) continue;
    std::string at = yaml::join(path, part.name);
    const std::string fallback = part.required               ? "required"
                                 : !part.computed.empty()    ? std::string(part.computed)
                                 : part.what == type::object ? ""
                                 : !part.fallback.empty()    ? fmt::format("`{}`", part.fallback)
                                                             : "";
    out += fmt::format("| `{}` | {} | {} | {} | {}{} |\n", at, shown_type(part), fallback, shown_bounds(part), part.doc,
                       part.local.empty() ? "" : fmt::format(" *Local: ignored; {}.*", part.local));
    if (part.what == type::list && !part.fields.empty()) at += "[]";
    if (part.what == type::map && !part.fields.empty()) at += ".NAME";
    if (!part.fields.empty()) rows(out, part, at);
  }
}

}  // namespace

std::string canonical_text(const json &value) {
  std::string out;
  write(out, value, 0);
  out.push_back('\n');
  return out;
}

json json_schema(const field &root) {
  json out = json::object();
  out["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  out["title"] = root.name;
  const json body = schema_of(root);
  for (auto it = body.begin(); it != body.end(); ++it) out[it.key()] = *it;
  return out;
}

std::string field_table(const field &root) {
  std::string out = "| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n";
  rows(out, root, "");
  return out;
}

}  // namespace thole::model
