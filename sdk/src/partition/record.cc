#include "partition/record.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "base/text.h"

namespace thole::partition {
namespace {

constexpr std::array<std::string_view, 3> backends = {"none", "simulated", "exclusive"};
constexpr std::array<std::string_view, 4> kinds = {"", "whole", "vgpu", "mig"};

template <std::size_t N>
std::optional<int32_t> index_of(const std::array<std::string_view, N> &names, std::string_view word) {
  for (std::size_t i = 0; i < N; ++i)
    if (!names[i].empty() && names[i] == word) return static_cast<int32_t>(i);
  return std::nullopt;
}

// CRC-32 as gzip has it: it finds every change within 32 bits, and takes four lines of C.
uint32_t crc32(std::string_view text) noexcept {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

// A name that fills the rest of its line.
bool is_name(std::string_view s) noexcept {
  if (s.empty() || s.size() > most_name || !is_utf8(s)) return false;
  for (const char c : s)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return false;
  return s.front() != ' ' && s.back() != ' ';
}

// A word between spaces.
bool is_word(std::string_view s, std::size_t most) noexcept {
  if (s.empty() || s.size() > most || s == "-") return false;
  for (const char c : s)
    if (c <= 0x20 || c >= 0x7F) return false;
  return true;
}

// What holds of every device of a record, written or read. An empty text is yes, else what is wrong.
std::string_view complaint(const record_device &d) noexcept {
  const bool mig = d.kind == THOLE_KIND_MIG;
  if (!is_word(d.uuid, most_uuid)) return "a uuid that is empty, too long or has spaces";
  if (d.kind < THOLE_KIND_WHOLE || d.kind > THOLE_KIND_MIG) return "an unknown kind";
  if (d.share_milli > 1000) return "a share above 1000";
  if (d.memory_mib > most_memory_mib) return "more memory than there can be";
  if (mig != !d.mig_profile.empty()) return "a MIG profile without being a MIG instance, or the other way round";
  if (mig && (!is_word(d.mig_profile, most_profile) || d.mig.size == 0)) return "a MIG profile or place that is none";
  if (d.mig.start > 1024 || d.mig.size > 1024 || (!mig && (d.mig.start | d.mig.size) != 0)) return "a MIG place";
  if (d.held_by < backend::none || d.held_by > backend::exclusive) return "an unknown backend";
  return {};
}

std::string_view complaint(const record &r) noexcept {
  if (!r.gang) return "no gang";
  if (r.attempt == 0) return "attempt 0";
  if (!is_name(r.node)) return "a node name that is empty, too long or has control characters";
  if (!is_name(r.role)) return "a role name that is empty, too long or has control characters";
  if (r.devices.size() > most_devices) return "too many devices";
  for (const record_device &d : r.devices)
    if (const std::string_view bad = complaint(d); !bad.empty()) return bad;
  return {};
}

// Cuts lines and words off, and remembers the first thing that was not as expected.
class scanner {
 public:
  explicit scanner(std::string_view text) : rest_(text) {}
  bool good() const noexcept { return good_; }
  bool at_end() const noexcept { return rest_.empty(); }
  bool next_is(std::string_view key) const noexcept {
    return rest_.size() > key.size() && rest_.substr(0, key.size()) == key && rest_[key.size()] == ' ';
  }
  // The rest of a line that begins with `key` and a space.
  std::string_view line(std::string_view key) {
    if (!next_is(key)) return broken();
    const std::size_t end = rest_.find('\n');
    if (end == std::string_view::npos) return broken();
    const std::string_view value = rest_.substr(key.size() + 1, end - key.size() - 1);
    rest_.remove_prefix(end + 1);
    return value;
  }
  uint64_t number(std::string_view word, uint64_t most = UINT64_MAX) {
    const auto n = parse_u64(word);
    // One way to write a number, so that a record has one form.
    if (!n || *n > most || (word.size() > 1 && word[0] == '0')) return broken(), 0;
    return *n;
  }
  template <std::size_t N>
  int32_t one_of(const std::array<std::string_view, N> &names, std::string_view word) {
    const auto i = index_of(names, word);
    if (!i) broken();
    return i.value_or(0);
  }
  // Exactly N words between single spaces.
  template <std::size_t N>
  std::array<std::string_view, N> words(std::string_view text) {
    std::array<std::string_view, N> out;
    for (std::size_t i = 0; i < N; ++i) {
      const std::size_t space = i + 1 < N ? text.find(' ') : text.size();
      if (space == std::string_view::npos || space == 0) return broken(), out;
      out[i] = text.substr(0, space);
      text.remove_prefix(std::min(space + 1, text.size()));
    }
    return out;
  }
  std::string_view broken() {
    good_ = false;
    return {};
  }

 private:
  std::string_view rest_;
  bool good_ = true;
};

record_device read_device(scanner &in) {
  const auto w = in.words<8>(in.line("device"));
  record_device d;
  d.uuid = w[0];
  d.kind = in.one_of(kinds, w[1]);
  d.memory_mib = in.number(w[2]);
  d.share_milli = static_cast<uint32_t>(in.number(w[3], 1000));
  d.held_by = static_cast<backend>(in.one_of(backends, w[4]));
  if (w[5] != "-") d.mig_profile = w[5];
  d.mig.start = static_cast<uint32_t>(in.number(w[6], 1024));
  d.mig.size = static_cast<uint32_t>(in.number(w[7], 1024));
  return d;
}

constexpr std::string_view magic = "thole-record ";
constexpr std::string_view seal = "checksum ";
constexpr std::size_t seal_line = seal.size() + 8 + 1;

// What stands before the checksum line, which must be right. It is the last line of a record of any version.
result<std::string_view> unsealed(std::string_view text) {
  if (text.size() > most_record)
    return fail(reason::RecordDamaged, "the record has {} bytes; {} are the most", text.size(), most_record);
  if (text.size() < magic.size() + seal_line || text.substr(0, magic.size()) != magic)
    return fail(reason::RecordDamaged, "this is no allocation record: it does not begin with \"thole-record\"");
  const std::string_view body = text.substr(0, text.size() - seal_line);
  if (text.substr(body.size()) != fmt::format("{}{:08x}\n", seal, crc32(body)) || body.back() != '\n')
    return fail(reason::RecordDamaged, "the record was cut or changed: its checksum does not match");
  return body;
}

}  // namespace

std::string_view name_of(backend b) noexcept {
  const auto i = static_cast<std::size_t>(b);
  return i < backends.size() ? backends[i] : "unknown";
}

result<std::string> write(const record &r) {
  if (const std::string_view bad = complaint(r); !bad.empty())
    return fail(reason::PlanBad, "the placement cannot be written as a record: it has {}", bad);
  std::string out = fmt::format("{}{}\ngang {}\nattempt {}\ngeneration {}\nnode {}\nrole {}\nmember {}\n", magic,
                                record_version, to_text(r.gang), r.attempt, r.generation, r.node, r.role, r.member);
  for (const record_device &d : r.devices)
    out += fmt::format("device {} {} {} {} {} {} {} {}\n", d.uuid, kinds[static_cast<std::size_t>(d.kind)],
                       d.memory_mib, d.share_milli, name_of(d.held_by), d.mig_profile.empty() ? "-" : d.mig_profile,
                       d.mig.start, d.mig.size);
  out += fmt::format("{}{:08x}\n", seal, crc32(out));
  return out;
}

result<record> read(std::string_view text) {
  THOLE_LET(const std::string_view body, unsealed(text));
  scanner in(body);
  const uint64_t version = in.number(in.line("thole-record"));
  if (!in.good() || version == 0) return fail(reason::RecordDamaged, "the record has no version");
  if (version > record_version)
    return fail(reason::RecordNewer, "the record is of version {}, this Thole reads {}: use the newer one here",
                version, record_version);
  record r;
  const auto gang = parse_id(in.line("gang"));
  r.gang = gang.value_or(id128{});
  r.attempt = in.number(in.line("attempt"));
  r.generation = in.number(in.line("generation"));
  r.node = in.line("node");
  r.role = in.line("role");
  r.member = static_cast<uint32_t>(in.number(in.line("member"), UINT32_MAX));
  while (in.good() && in.next_is("device")) {
    if (r.devices.size() == most_devices)
      return fail(reason::RecordDamaged, "the record has more than {} devices", most_devices);
    r.devices.push_back(read_device(in));
  }
  if (!gang || !in.good() || !in.at_end())
    return fail(reason::RecordDamaged, "a line of the record is not what this version has there");
  if (const std::string_view bad = complaint(r); !bad.empty())
    return fail(reason::RecordDamaged, "the record has {}", bad);
  return r;
}

}  // namespace thole::partition
