// The part of base/yaml.h that reads typed values out of the tree.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "base/yaml.h"

namespace thole::yaml {

std::string_view name_of(kind k) noexcept {
  static constexpr std::string_view names[] = {"nothing",  "a boolean",  "a whole number", "a number",
                                               "a string", "a sequence", "a mapping"};
  return names[static_cast<std::size_t>(k)];
}

const node *node::find(std::string_view name) const noexcept {
  if (what != kind::map) return nullptr;
  for (const node &child : children)
    if (child.key == name) return &child;
  return nullptr;
}

std::string problem::text() const {
  std::string out;
  if (at.line != 0) out += fmt::format("{}:{}: ", at.line, at.column);
  if (!field.empty()) out += field + ": ";
  return out + message;
}
error problem::as_error() const noexcept {
  return fail(why, "{}", text()).value();
}

void problems::add(problem p) {
  if (!p.remark && ++errors_ > most) return;
  if (all_.size() >= 2 * most) return;
  all_.push_back(std::move(p));
}
void problems::sort() {
  std::stable_sort(all_.begin(), all_.end(), [](const problem &a, const problem &b) {
    return a.at.line != b.at.line ? a.at.line < b.at.line : a.at.column < b.at.column;
  });
}
result<> problems::outcome() const noexcept {
  for (const problem &p : all_)
    if (!p.remark) return tl::unexpected(p.as_error());
  return {};
}

std::string join(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}
std::string join(std::string_view path, std::size_t index) {
  return fmt::format("{}[{}]", path, index);
}

std::string suggestion(std::string_view word, std::span<const std::string_view> words) {
  if (const std::string_view near = nearest(word, words); !near.empty())
    return fmt::format("; did you mean '{}'?", near);
  if (words.empty()) return "";
  return fmt::format("; known here: {}", fmt::join(words, ", "));
}

namespace {

// How a person wrote it, short enough for a sentence.
std::string shown(const node &n) {
  if (n.is_map() || n.is_sequence()) return std::string(name_of(n.what));
  if (n.what == kind::null) return "nothing";
  constexpr std::size_t most = 40;
  std::string text = n.text;
  if (text.size() > most) {
    std::size_t cut = most;
    while (cut > 0 && (text[cut] & 0xC0) == 0x80) --cut;
    text = text.substr(0, cut) + "...";
  }
  return n.quoted ? fmt::format("\"{}\"", text) : fmt::format("`{}`", text);
}

}  // namespace

std::optional<std::string> take_text(const node &n, std::string_view field, problems &found) {
  if (n.what == kind::string && !n.quotable) return n.text;
  if (n.is_map() || n.is_sequence() || n.what == kind::null)
    found.refuse(reason::FieldWrongType, n.at, field, "a string is expected, here is {}", shown(n));
  else
    found.refuse(reason::FieldWrongType, n.at, field,
                 "a string is expected; {} is not one to every reader of YAML: write \"{}\" with quotes", shown(n),
                 n.text);
  return std::nullopt;
}

std::optional<int64_t> take_integer(const node &n, std::string_view field, int64_t least, int64_t most,
                                    problems &found) {
  if (n.what != kind::integer) {
    found.refuse(reason::FieldWrongType, n.at, field,
                 "a whole number from {} to {} is expected, written in plain decimal digits; here is {}", least, most,
                 shown(n));
    return std::nullopt;
  }
  int64_t value = 0;
  const auto [end, problem] = std::from_chars(n.text.data(), n.text.data() + n.text.size(), value);
  if (problem != std::errc{} || value < least || value > most) {
    found.refuse(reason::FieldBad, n.at, field, "a whole number from {} to {} is expected, here is {}", least, most,
                 shown(n));
    return std::nullopt;
  }
  return value;
}

std::optional<bool> take_boolean(const node &n, std::string_view field, problems &found) {
  if (n.what == kind::boolean) return n.text == "true";
  found.refuse(reason::FieldWrongType, n.at, field, "true or false is expected, here is {}", shown(n));
  return std::nullopt;
}

object::object(const node &from, std::string path, problems &found)
    : from_(from), path_(std::move(path)), found_(found) {
  if (!from.is_map())
    found.refuse(reason::FieldWrongType, from.at, path_, "a mapping is expected, here is {}", shown(from));
}

const node *object::child(std::string_view key, bool required) {
  known_.push_back(key);
  const node *n = from_.find(key);
  if (n == nullptr && required && from_.is_map())
    found_.refuse(reason::FieldMissing, from_.at, join(path_, key), "is missing");
  return n;
}

std::string object::text(std::string_view key, std::optional<std::string> fallback) {
  const node *n = child(key, !fallback);
  if (n == nullptr) return fallback.value_or("");
  return take_text(*n, join(path_, key), found_).value_or("");
}
int64_t object::integer(std::string_view key, int64_t least, int64_t most, std::optional<int64_t> fallback) {
  const node *n = child(key, !fallback);
  if (n == nullptr) return fallback.value_or(0);
  return take_integer(*n, join(path_, key), least, most, found_).value_or(0);
}
bool object::boolean(std::string_view key, std::optional<bool> fallback) {
  const node *n = child(key, !fallback);
  if (n == nullptr) return fallback.value_or(false);
  return take_boolean(*n, join(path_, key), found_).value_or(false);
}

std::vector<std::string> object::texts(std::string_view key, bool required) {
  std::vector<std::string> out;
  const node *n = child(key, required);
  if (n == nullptr) return out;
  const std::string path = join(path_, key);
  if (!n->is_sequence()) {
    found_.refuse(reason::FieldWrongType, n->at, path, "a sequence of strings is expected, here is {}", shown(*n));
    return out;
  }
  for (std::size_t i = 0; i < n->children.size(); ++i)
    out.push_back(take_text(n->children[i], join(path, i), found_).value_or(""));
  return out;
}

void object::each(std::string_view key, const std::function<void(const node &, std::string path)> &visit) {
  const node *n = child(key);
  if (n == nullptr) return;
  const std::string path = join(path_, key);
  if (!n->is_sequence()) {
    found_.refuse(reason::FieldWrongType, n->at, path, "a sequence is expected, here is {}", shown(*n));
    return;
  }
  for (std::size_t i = 0; i < n->children.size(); ++i) visit(n->children[i], join(path, i));
}

void object::ignore(std::initializer_list<std::string_view> keys) {
  known_.insert(known_.end(), keys);
}

void object::finish() {
  if (!from_.is_map()) return;
  for (const node &n : from_.children)
    if (std::find(known_.begin(), known_.end(), n.key) == known_.end())
      found_.refuse(reason::FieldUnknown, n.key_at, join(path_, n.key), "there is no such field{}",
                    suggestion(n.key, known_));
}

void object::refuse(std::string_view key, reason why, std::string_view message) {
  const node *n = from_.find(key);
  found_.refuse(why, n == nullptr ? from_.at : n->at, join(path_, key), "{}", message);
}

}  // namespace thole::yaml
