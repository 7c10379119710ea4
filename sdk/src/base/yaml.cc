#include "base/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "base/text.h"
#include "base/yaml_scalar.h"

namespace thole::yaml {
namespace {

// Offset of the first byte that no shortest UTF-8 sequence has.
std::size_t first_not_utf8(std::string_view text) noexcept {
  std::size_t good = 0;
  while (good < text.size()) {
    std::size_t length = 1;
    while (length <= 4 && !is_utf8(text.substr(good, length))) ++length;
    if (length > 4) break;
    good += length;
  }
  return good;
}

// Unwinds the parser once something is refused; the problem is in the list already.
struct refused {};

// The text as yaml-cpp gets it: without a byte order mark and with LF only. Places count as in the file: neither
// moves a line, and a column only in the first line, where a mark has no width.
class source {
 public:
  source(std::string_view text, problems &found) : found_(found) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    text_.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
      text_.push_back(text[i]);
    }
    starts_.push_back(0);
    for (std::size_t i = 0; i < text_.size(); ++i)
      if (text_[i] == '\n') starts_.push_back(i + 1);
  }

  const std::string &text() const noexcept { return text_; }

  // Counts on from the place before, where it can: a JSON file may be one line of a mebibyte.
  place at(std::size_t offset) const noexcept {
    offset = std::min(offset, text_.size());
    const auto line = std::upper_bound(starts_.begin(), starts_.end(), offset) - 1;
    if (last_offset_ < *line || last_offset_ > offset) {
      last_offset_ = *line;
      last_column_ = 1;
    }
    for (; last_offset_ < offset; ++last_offset_)
      if ((text_[last_offset_] & 0xC0) != 0x80) ++last_column_;
    return {static_cast<uint32_t>(line - starts_.begin()) + 1, last_column_};
  }
  place at(const YAML::Mark &mark) const noexcept { return at(offset(mark)); }
  // A mark's pos and column count bytes.
  static std::size_t offset(const YAML::Mark &mark) noexcept {
    return mark.pos < 0 ? 0 : static_cast<std::size_t>(mark.pos);
  }
  // Whether the quoted scalar that begins here ends: yaml-cpp takes the end of the file for a quote.
  bool is_closed(std::size_t offset) const noexcept {
    const char quote = first(offset);
    if (quote != '"' && quote != '\'') return true;
    for (std::size_t i = offset + 1; i < text_.size(); ++i) {
      if (text_[i] == '\\' && quote == '"') ++i;
      else if (text_[i] == quote && quote == '\'' && first(i + 1) == quote) ++i;
      else if (text_[i] == quote) return true;
    }
    return false;
  }
  char first(std::size_t offset) const noexcept { return offset < text_.size() ? text_[offset] : '\0'; }

  // Offset of a tab in the white space that `line` (0 is the first) begins with.
  std::optional<std::size_t> indenting_tab(std::size_t line) const noexcept {
    if (line >= starts_.size()) return std::nullopt;
    std::size_t tab = text_.size();
    std::size_t end = starts_[line];
    for (; end < text_.size() && (text_[end] == ' ' || text_[end] == '\t'); ++end)
      if (text_[end] == '\t') tab = std::min(tab, end);
    if (tab == text_.size() || end == text_.size() || text_[end] == '\n') return std::nullopt;
    return tab;
  }

  // What is refused before a parser sees it.
  bool check() {
    if (text_.find_first_not_of(" \t\n") == text_.npos) return refuse(reason::FileEmpty, 0, "the file is empty");
    static constexpr std::string_view odd[] = {"\xC2\x85", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xEF\xBB\xBF"};
    for (std::size_t i = 0; i < text_.size(); ++i) {
      const auto c = static_cast<unsigned char>(text_[i]);
      if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7F)
        return refuse(reason::FileNotYaml, i,
                      fmt::format("control character U+{:04X}: remove it, or write \"\\x{:02X}\" in double quotes",
                                  static_cast<unsigned>(c), static_cast<unsigned>(c)));
      if (c < 0x80) continue;
      const std::string_view rest = std::string_view(text_).substr(i, 3);
      for (std::string_view o : odd)
        if (rest.starts_with(o))
          return refuse(
              reason::FileNotYaml, i,
              "an invisible line break or byte order mark, which readers of YAML take differently: remove it");
    }
    for (const std::size_t start : starts_) {
      const char c = first(start);
      if (c == '%') return refuse(reason::YamlRefused, start, "directives (%) are refused: remove the line");
      if (c != '#' && c != '\n') break;
    }
    return true;
  }

  bool refuse(reason why, std::size_t offset, std::string message) {
    found_.add({why, at(offset), "", std::move(message), false});
    return false;
  }

 private:
  std::string text_;
  std::vector<std::size_t> starts_;
  mutable std::size_t last_offset_ = 0;
  mutable uint32_t last_column_ = 1;
  problems &found_;
};

class builder final : public YAML::EventHandler {
 public:
  builder(source &from, const limits &bounds) : from_(from), bounds_(bounds) {}

  void OnDocumentStart(const YAML::Mark &mark) override {
    if (++documents_ < 2) return;
    // yaml-cpp also begins a document where text follows a complete value.
    const std::size_t at = source::offset(mark);
    const bool marked = from_.text().rfind("\n---", at) != std::string::npos || from_.text().starts_with("---");
    if (marked) refuse(reason::FileManyDocuments, at, "a second document begins here: keep one document in a file");
    refuse(reason::FileNotYaml, at, "text after the end of the value: one mapping is expected in a file");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark &mark, YAML::anchor_t anchor) override {
    check_properties(mark, "", anchor);
    // yaml-cpp calls ~, null, Null, NULL and nothing at all the same; the text tells.
    const std::size_t at = source::offset(mark);
    std::string_view word = std::string_view(from_.text()).substr(std::min(at, from_.text().size()), 4);
    if (word.starts_with('~')) word = word.substr(0, 1);
    if (word != "~" && word != "null" && word != "Null" && word != "NULL") word = {};
    place_node(mark, true);
    if (awaits_key()) return take_key(std::string(word), false, mark);
    node n;
    n.text = std::string(word);
    n.what = of_plain(word).what;
    n.quotable = of_plain(word).quotable;
    append(std::move(n), at);
  }
  void OnAlias(const YAML::Mark &mark, YAML::anchor_t) override { refuse_alias(source::offset(mark)); }
  void OnScalar(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                const std::string &value) override {
    check_properties(mark, tag, anchor);
    const std::size_t at = source::offset(mark);
    if (!is_utf8(value) || value.find('\0') != std::string::npos)
      refuse(reason::FileNotYaml, at, "the text contains a NUL, or an escape that is no character: remove it");
    place_node(mark, false);
    const bool quoted = tag == "!";
    if (quoted && !from_.is_closed(at)) refuse(reason::FileNotYaml, at, "this quote is not closed");
    if (awaits_key()) return take_key(value, quoted, mark);
    node n;
    n.quoted = quoted;
    const meaning m = quoted ? meaning{} : of_plain(value);
    n.what = m.what;
    n.quotable = m.quotable;
    n.text = value;
    append(std::move(n), at);
  }
  void OnSequenceStart(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    begin(mark, tag, anchor, style, kind::sequence);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    begin(mark, tag, anchor, style, kind::map);
  }
  void OnMapEnd() override { end(); }
  void OnAnchor(const YAML::Mark &mark, const std::string &) override { refuse_anchor(source::offset(mark)); }

  [[noreturn]] void refuse(reason why, std::size_t at, std::string message) {
    from_.refuse(why, at, std::move(message));
    throw refused{};
  }
  [[noreturn]] void refuse_alias(std::size_t at) {
    refuse(reason::YamlRefused, at, "aliases (*) are refused: write the value out");
  }
  [[noreturn]] void refuse_anchor(std::size_t at) {
    refuse(reason::YamlRefused, at, "anchors (&) are refused: write the value out where it is needed");
  }
  int documents() const noexcept { return documents_; }
  node take() { return std::move(root_); }

 private:
  struct open_node {
    node n;
    bool flow;
    bool key_read = false;
    std::string key;
    place key_at;
    std::set<std::string, std::less<>> keys;
  };

  bool awaits_key() const { return !open_.empty() && open_.back().n.is_map() && !open_.back().key_read; }

  void check_properties(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor) {
    const std::size_t at = source::offset(mark);
    if (anchor != 0) refuse_anchor(at);
    // An explicit `!` looks like the mark of a quoted scalar; the text tells.
    if ((!tag.empty() && tag != "?" && tag != "!") || from_.first(at) == '!')
      refuse(reason::YamlRefused, at, "tags (!) are refused: the field decides the type");
  }

  // Counts a node and looks for tabs before it; in flow style (JSON) they are as good as spaces.
  void place_node(const YAML::Mark &mark, bool may_be_elsewhere) {
    if (++nodes_ > bounds_.nodes)
      refuse(reason::YamlRefused, source::offset(mark), fmt::format("more than {} values", bounds_.nodes));
    if (may_be_elsewhere || (!open_.empty() && open_.back().flow) || mark.line < 0) return;
    const auto tab = from_.indenting_tab(static_cast<std::size_t>(mark.line));
    if (tab && *tab < source::offset(mark)) refuse_tab(*tab);
  }
  [[noreturn]] void refuse_tab(std::size_t at) {
    refuse(reason::FileNotYaml, at, "a tab in the indentation: use spaces");
  }

  void take_key(std::string key, bool quoted, const YAML::Mark &mark) {
    const std::size_t at = source::offset(mark);
    const meaning m = quoted ? meaning{} : of_plain(key);
    if (m.what != kind::string || m.quotable)
      refuse(reason::YamlRefused, at,
             fmt::format("the key `{}` is not a word to every reader: write \"{}\"", key, key));
    open_node &map = open_.back();
    if (!map.keys.insert(key).second) {
      const node *first = map.n.find(key);
      refuse(reason::KeyDuplicate, at,
             fmt::format("the key '{}' stands twice in this mapping{}: remove one", key,
                         first == nullptr ? "" : fmt::format(" (first in line {})", first->key_at.line)));
    }
    map.key = std::move(key);
    map.key_at = from_.at(at);
    map.key_read = true;
  }

  void begin(const YAML::Mark &mark, const std::string &tag, YAML::anchor_t anchor, YAML::EmitterStyle::value style,
             kind what) {
    check_properties(mark, tag, anchor);
    const std::size_t at = source::offset(mark);
    // At the end of the file yaml-cpp takes what an open bracket holds for a key.
    if (awaits_key())
      refuse(reason::YamlRefused, at, "a bracket is not closed, or a mapping or a sequence stands where a key must be");
    if (what == kind::map && style == YAML::EmitterStyle::Flow && from_.first(at) != '{')
      refuse(reason::FileNotYaml, at, "the bracket is not closed, or a pair stands in a sequence without { }");
    place_node(mark, style == YAML::EmitterStyle::Flow);
    if (open_.size() >= bounds_.depth)
      refuse(reason::YamlRefused, at, fmt::format("more than {} levels of nesting", bounds_.depth));
    open_node o{};
    o.n.what = what;
    o.n.at = from_.at(at);
    o.flow = style == YAML::EmitterStyle::Flow;
    open_.push_back(std::move(o));
  }
  void end() {
    node n = std::move(open_.back().n);
    open_.pop_back();
    attach(std::move(n));
  }
  void append(node n, std::size_t at) {
    n.at = from_.at(at);
    // Where nothing stands yaml-cpp names the place of whatever comes next.
    if (n.what == kind::null && n.text.empty() && !open_.empty() && open_.back().n.is_map()) n.at = open_.back().key_at;
    attach(std::move(n));
  }
  void attach(node n) {
    if (open_.empty()) {
      root_ = std::move(n);
      return;
    }
    open_node &parent = open_.back();
    n.key_at = n.at;
    if (parent.n.is_map()) {
      n.key = std::move(parent.key);
      n.key_at = parent.key_at;
      parent.key_read = false;
    }
    parent.n.children.push_back(std::move(n));
  }

  source &from_;
  const limits &bounds_;
  std::vector<open_node> open_;
  node root_;
  uint32_t nodes_ = 0;
  int documents_ = 0;
};

// What yaml-cpp says, in words of ours where a person needs more.
void explain(const YAML::Exception &e, source &from) {
  const auto line = static_cast<std::size_t>(std::max(e.mark.line, 0));
  for (std::size_t near : {line, line + 1, line == 0 ? line : line - 1})
    if (const auto tab = from.indenting_tab(near)) {
      from.refuse(reason::FileNotYaml, *tab, "a tab in the indentation: use spaces");
      return;
    }
  const std::size_t at = source::offset(e.mark);
  if (from.first(at) == '*') {
    from.refuse(reason::YamlRefused, at, "aliases (*) are refused: write the value out");
    return;
  }
  std::string_view more;
  if (e.msg.starts_with("illegal map value") || e.msg.starts_with("end of map"))
    more = "; look at the indentation, and put a text that contains ': ' in quotes";
  else if (e.msg.starts_with("illegal EOF")) more = "; a quote is not closed";
  else if (e.msg.starts_with("invalid unicode")) more = "; write the character itself";
  from.refuse(reason::FileNotYaml, at, fmt::format("not YAML: {}{}", e.msg, more));
}

}  // namespace

std::optional<node> read(std::string_view text, problems &found, const limits &bounds) {
  const place start{1, 1};
  if (text.size() > bounds.bytes) {
    found.refuse(reason::YamlRefused, start, "", "the file has {} bytes; {} are the most", text.size(), bounds.bytes);
    return std::nullopt;
  }
  source from(text, found);
  if (!is_utf8(from.text())) {
    const auto bad = first_not_utf8(from.text());
    found.refuse(reason::TextNotUtf8, from.at(bad), "", "the file is not UTF-8: save it as UTF-8");
    return std::nullopt;
  }
  if (!from.check()) return std::nullopt;
  builder build(from, bounds);
  try {
    std::istringstream stream(from.text());
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(build)) {
    }
  } catch (const refused &) {
    return std::nullopt;
  } catch (const YAML::Exception &e) {
    explain(e, from);
    return std::nullopt;
  }
  if (build.documents() == 0) {
    from.refuse(reason::FileEmpty, 0, "the file is empty");
    return std::nullopt;
  }
  return build.take();
}

}  // namespace thole::yaml
