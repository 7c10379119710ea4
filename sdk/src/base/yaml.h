// base/yaml.h: files that people write, read so that every other reader of YAML would understand the same.
//
// The reader takes YAML (and so JSON) apart by yaml-cpp's events into a small tree, and refuses what is a trap:
// aliases, anchors, tags, directives, duplicate keys, a second document, tabs as indentation, control characters, too
// much size or depth. A byte order mark and CRLF are accepted.
//
// Plain scalars mean what JSON makes of them: true, false, null and JSON numbers; everything else is a string. Where
// another reader would see something else (`no`, `010`, `1e3`, `~`), `quotable` is set, and whoever wants a string or a
// number refuses it: a person then writes quotes, or the number, and all readers agree.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thole::yaml {

struct place {
  uint32_t line = 0;    // 1 is the first; 0: no place
  uint32_t column = 0;  // in characters, 1 is the first
  friend bool operator==(const place &, const place &) = default;
};

enum class kind : uint8_t { null, boolean, integer, number, string, sequence, map };
std::string_view name_of(kind k) noexcept;  // "a whole number", for sentences

struct node {
  kind what = kind::null;
  bool quoted = false;
  bool quotable = false;  // a plain word that not every reader takes for the same
  place at;
  place key_at;                // of the key; of the node itself in a sequence
  std::string key;             // empty in a sequence and at the root
  std::string text;            // of a scalar
  std::vector<node> children;  // in the order of the file

  const node *find(std::string_view name) const noexcept;
  bool is_map() const noexcept { return what == kind::map; }
  bool is_sequence() const noexcept { return what == kind::sequence; }
};

// Something wrong, or worth knowing, at a place of the file.
struct problem {
  reason why{};
  place at;
  std::string field;    // "spec.roles[0].vgpu.memory"; may be empty
  std::string message;  // without the place
  bool remark = false;  // the file is good all the same

  // "12:7: spec.roles[0].members: ..." as a status has it.
  error as_error() const noexcept;
  std::string text() const;
};

// All that was found, in the order in which it was found; errors beyond the 100th are only counted.
class problems {
 public:
  static constexpr std::size_t most = 100;
  void add(problem p);
  template <class... Args>
  void refuse(reason why, place at, std::string_view field, fmt::format_string<Args...> format, Args &&...args) {
    add({why, at, std::string(field), fmt::vformat(format, fmt::make_format_args(args...)), false});
  }
  template <class... Args>
  void remark(reason why, place at, std::string_view field, fmt::format_string<Args...> format, Args &&...args) {
    add({why, at, std::string(field), fmt::vformat(format, fmt::make_format_args(args...)), true});
  }
  std::size_t errors() const noexcept { return errors_; }
  std::span<const problem> all() const noexcept { return all_; }
  // Errors and remarks in the order of their places.
  void sort();
  // The first error, or success.
  result<> outcome() const noexcept;

 private:
  std::vector<problem> all_;
  std::size_t errors_ = 0;
};

struct limits {
  std::size_t bytes = std::size_t{1} << 20;
  uint32_t depth = 64;
  uint32_t nodes = 50'000;
};

// The tree of the one document in `text`, or nothing and an error in `found`. The sentence has the place.
std::optional<node> read(std::string_view text, problems &found, const limits &bounds = {});

// "a[3].b" from a parent's path and a key or an index.
std::string join(std::string_view path, std::string_view key);
std::string join(std::string_view path, std::size_t index);

// "; did you mean 'members'?", or "; one of: a, b, c", or nothing.
std::string suggestion(std::string_view word, std::span<const std::string_view> words);

// One mapping, read strictly: what is asked for is known, finish() refuses the rest. Every error is collected, so a
// value that is missing or wrong reads as empty; whoever uses the values first asks found.outcome().
//
//     yaml::problems found;
//     const auto root = yaml::read(text, found);
//     yaml::object plugin(*root, "", found);
//     const std::string id = plugin.text("id");
//     const uint64_t n = plugin.integer("count", 1, 32, 1);
//     plugin.finish();
//     THOLE_TRY(found.outcome());
class object {
 public:
  object(const node &from, std::string path, problems &found);
  bool is_map() const noexcept { return from_.is_map(); }
  bool has(std::string_view key) const noexcept { return from_.find(key) != nullptr; }

  // Required, unless there is a default.
  std::string text(std::string_view key, std::optional<std::string> fallback = std::nullopt);
  int64_t integer(std::string_view key, int64_t least, int64_t most, std::optional<int64_t> fallback = std::nullopt);
  bool boolean(std::string_view key, std::optional<bool> fallback = std::nullopt);
  std::vector<std::string> texts(std::string_view key, bool required = false);
  // The child as it is: nullptr, with an error if it is required and missing.
  const node *child(std::string_view key, bool required = false);
  void each(std::string_view key, const std::function<void(const node &, std::string path)> &visit);
  // Known, and of no interest here.
  void ignore(std::initializer_list<std::string_view> keys);
  // Refuses what has not been asked for.
  void finish();

  const std::string &path() const noexcept { return path_; }
  void refuse(std::string_view key, reason why, std::string_view message);

 private:
  const node &from_;
  std::string path_;
  problems &found_;
  std::vector<std::string_view> known_;
};

// A scalar as what a field wants; else nothing and an error that says what is expected.
std::optional<std::string> take_text(const node &n, std::string_view field, problems &found);
std::optional<int64_t> take_integer(const node &n, std::string_view field, int64_t least, int64_t most,
                                    problems &found);
std::optional<bool> take_boolean(const node &n, std::string_view field, problems &found);

}  // namespace thole::yaml
