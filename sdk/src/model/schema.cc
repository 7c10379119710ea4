#include "model/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "model/quantity.h"

namespace thole::model {
namespace {

using yaml::kind;
using yaml::node;

constexpr int64_t native_bytes = 65536;
constexpr int64_t most_in_list = 65535;  // of the whole numbers in a list

std::optional<json> read_object(const field &f, const node &n, const std::string &path, const reading &in);

std::optional<json> defaults_of(const field &f, const reading &in) {
  node empty;
  empty.what = kind::map;
  switch (f.what) {
    case type::list:
      return json::array();
    case type::map:
      return json::object();
    case type::boolean:
      return f.fallback == "true";
    case type::integer: {
      int64_t value = 0;
      std::from_chars(f.fallback.data(), f.fallback.data() + f.fallback.size(), value);
      return value;
    }
    case type::object:
      return read_object(f, empty, "", in);
    default:
      return std::string(f.fallback);
  }
}
// Lists and maps are empty rather than absent.
bool has_default(const field &f) noexcept {
  return !f.fallback.empty() || (!f.required && (f.what == type::list || f.what == type::map));
}

std::optional<json> read_quantity(const field &f, const node &n, const std::string &path, const reading &in,
                                  quantity (*parse)(std::string_view), std::string (*write)(int64_t)) {
  if (n.is_map() || n.is_sequence() || n.what == kind::null || n.what == kind::boolean) {
    in.found.refuse(reason::FieldWrongType, n.at, path, "{}", parse("").sentence);
    return std::nullopt;
  }
  const quantity q = parse(n.text);
  if (!q.value) {
    in.found.refuse(reason::UnitBad, n.at, path, "{}", q.sentence);
    return std::nullopt;
  }
  if (*q.value < f.least || (f.most != 0 && *q.value > f.most)) {
    in.found.refuse(reason::FieldBad, n.at, path, "{} is out of bounds: from {} to {} is allowed", n.text,
                    write(f.least), write(f.most));
    return std::nullopt;
  }
  return write(*q.value);
}

std::optional<json> read_text(const field &f, const node &n, const std::string &path, const reading &in) {
  auto text = yaml::take_text(n, path, in.found);
  if (!text) return std::nullopt;
  const auto most = static_cast<std::size_t>(f.most == 0 ? native_bytes : f.most);
  if (text->size() > most || text->size() < static_cast<std::size_t>(f.least)) {
    in.found.refuse(reason::FieldBad, n.at, path, "the text has {} bytes; from {} to {} are allowed", text->size(),
                    f.least, most);
    return std::nullopt;
  }
  return std::move(*text);
}

std::optional<json> read_name(const field &f, const node &n, const std::string &path, const reading &in) {
  auto text = yaml::take_text(n, path, in.found);
  if (!text) return std::nullopt;
  if (const char *wrong = name_problem(*text, static_cast<std::size_t>(f.most == 0 ? 52 : f.most))) {
    in.found.refuse(reason::NameBad, n.at, path, "'{}' {}", text->substr(0, 64), wrong);
    return std::nullopt;
  }
  return std::move(*text);
}

std::optional<json> read_word(const field &f, const node &n, const std::string &path, const reading &in) {
  auto text = yaml::take_text(n, path, in.found);
  if (!text) return std::nullopt;
  if (std::find(f.words.begin(), f.words.end(), *text) != f.words.end()) return std::move(*text);
  in.found.refuse(reason::FieldBad, n.at, path, "one of {} is expected, here is '{}'{}", fmt::join(f.words, ", "),
                  text->substr(0, 40),
                  nearest(*text, f.words).empty() ? "" : fmt::format("; did you mean '{}'?", nearest(*text, f.words)));
  return std::nullopt;
}

// Native blocks: as they are, except for what other readers would read otherwise.
std::optional<json> read_any(const node &n, const std::string &path, const reading &in) {
  switch (n.what) {
    case kind::null:
      if (!n.quotable) return json(nullptr);
      break;
    case kind::boolean:
      return json(n.text == "true");
    case kind::integer: {
      int64_t value = 0;
      const auto [end, problem] = std::from_chars(n.text.data(), n.text.data() + n.text.size(), value);
      if (problem == std::errc{}) return json(value);
      in.found.refuse(reason::FieldBad, n.at, path, "the number does not fit 64 bits");
      return std::nullopt;
    }
    case kind::number: {
      // Kept as text would be safest, but the block is somebody else's: a number stays one.
      double value = 0;
      const auto [end, problem] = std::from_chars(n.text.data(), n.text.data() + n.text.size(), value);
      if (!n.quotable && problem == std::errc{}) return json(value);
      break;
    }
    case kind::string:
      if (!n.quotable) return json(n.text);
      break;
    case kind::sequence: {
      json out = json::array();
      for (std::size_t i = 0; i < n.children.size(); ++i)
        out.push_back(read_any(n.children[i], yaml::join(path, i), in).value_or(nullptr));
      return out;
    }
    case kind::map: {
      json out = json::object();
      for (const node &child : n.children)
        out[child.key] = read_any(child, yaml::join(path, child.key), in).value_or(nullptr);
      return out;
    }
  }
  in.found.refuse(reason::FieldWrongType, n.at, path,
                  "`{}` is not the same to every reader of YAML: write \"{}\" with quotes, or the plain number", n.text,
                  n.text);
  return std::nullopt;
}

field element_of(const field &f) {
  field element = f;
  element.what = f.fields.empty() ? f.element : type::object;
  element.least = 0;
  element.most = element.what == type::integer ? most_in_list : 0;
  element.local = {};
  return element;
}

std::optional<json> read_list(const field &f, const node &n, const std::string &path, const reading &in) {
  if (!n.is_sequence()) {
    in.found.refuse(
        reason::FieldWrongType, n.at, path, "a sequence is expected, here is {}{}", yaml::name_of(n.what),
        n.what == kind::string ? fmt::format(": write [{}], one element a word", n.text.substr(0, 40)) : "");
    return std::nullopt;
  }
  const auto count = static_cast<int64_t>(n.children.size());
  if (count < f.least || (f.most != 0 && count > f.most)) {
    in.found.refuse(reason::FieldBad, n.at, path, "{} elements; from {} to {} are allowed", count, f.least, f.most);
    return std::nullopt;
  }
  const field element = element_of(f);
  json out = json::array();
  for (std::size_t i = 0; i < n.children.size(); ++i)
    if (auto value = read_field(element, n.children[i], yaml::join(path, i), in)) out.push_back(std::move(*value));
  return out;
}

std::optional<json> read_map(const field &f, const node &n, const std::string &path, const reading &in) {
  if (!n.is_map()) {
    in.found.refuse(reason::FieldWrongType, n.at, path, "a mapping is expected, here is {}", yaml::name_of(n.what));
    return std::nullopt;
  }
  const field element = element_of(f);
  json out = json::object();
  for (const node &child : n.children)
    if (auto value = read_field(element, child, yaml::join(path, child.key), in)) out[child.key] = std::move(*value);
  return out;
}

std::optional<json> read_object(const field &f, const node &n, const std::string &path, const reading &in) {
  if (!n.is_map()) {
    in.found.refuse(reason::FieldWrongType, n.at, path, "a mapping is expected, here is {}", yaml::name_of(n.what));
    return std::nullopt;
  }
  std::vector<std::string_view> known;
  json out = json::object();
  for (const field &part : f.fields) {
    if (part.what != type::dropped) known.push_back(part.name);
    const node *given = n.find(part.name);
    const std::string at = yaml::join(path, part.name);
    if (given != nullptr) {
      if (auto value = read_field(part, *given, at, in); value && part.what != type::dropped)
        out[std::string(part.name)] = std::move(*value);
      continue;
    }
    if (part.required) in.found.refuse(reason::FieldMissing, n.at, at, "is missing: {}", part.doc);
    else if (!part.computed.empty()) out[std::string(part.name)] = nullptr;
    else if (has_default(part)) out[std::string(part.name)] = *defaults_of(part, in);
  }
  for (const node &child : n.children)
    if (std::none_of(f.fields.begin(), f.fields.end(), [&](const field &p) { return p.name == child.key; }))
      in.found.refuse(reason::FieldUnknown, child.key_at, yaml::join(path, child.key), "there is no such field{}",
                      yaml::suggestion(child.key, known));
  return out;
}

}  // namespace

const char *name_problem(std::string_view name, std::size_t most) noexcept {
  if (name.empty()) return "is empty";
  if (name.size() > most) return most == 52 ? "has more than 52 characters" : "is too long";
  const auto legal = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (!legal(name.front()) || !legal(name.back())) return "must begin and end with a lower-case letter or a digit";
  if (!std::all_of(name.begin(), name.end(), [&](char c) { return legal(c) || c == '-'; }))
    return "may have lower-case letters, digits and '-' only";
  return nullptr;
}

const yaml::node *find(const yaml::node &from, std::initializer_list<std::string_view> keys) noexcept {
  const yaml::node *n = &from;
  for (std::string_view key : keys)
    if (n = n->find(key); n == nullptr) return nullptr;
  return n;
}

std::optional<json> read_field(const field &f, const yaml::node &n, const std::string &path, const reading &in) {
  if (f.what == type::dropped) {
    in.found.remark(reason::Ignored, n.key_at, path, "is the cluster's own and is left out");
    return std::nullopt;
  }
  if (in.platform == "local" && !f.local.empty())
    in.found.remark(reason::Ignored, n.key_at, path, "has no effect on this platform: {}", f.local);
  switch (f.what) {
    case type::object:
      return read_object(f, n, path, in);
    case type::list:
      return read_list(f, n, path, in);
    case type::map:
      return read_map(f, n, path, in);
    case type::text:
      return read_text(f, n, path, in);
    case type::name:
      return read_name(f, n, path, in);
    case type::word:
      return read_word(f, n, path, in);
    case type::memory:
      return read_quantity(f, n, path, in, parse_memory, memory_text);
    case type::duration:
      return read_quantity(f, n, path, in, parse_duration, duration_text);
    case type::cpu:
      return read_quantity(f, n, path, in, parse_cpu, cpu_text);
    case type::share:
      return read_quantity(f, n, path, in, parse_share, share_text);
    case type::any:
      return read_any(n, path, in);
    case type::integer:
      if (auto v = yaml::take_integer(n, path, f.least, f.most, in.found)) return json(*v);
      return std::nullopt;
    case type::boolean:
      if (auto v = yaml::take_boolean(n, path, in.found)) return json(*v);
      return std::nullopt;
    case type::dropped:
      break;
  }
  return std::nullopt;
}

}  // namespace thole::model
