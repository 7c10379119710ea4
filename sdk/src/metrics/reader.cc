#include "metrics/reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "metrics/layout.h"

namespace thole::metrics {
namespace {

template <class... Args>
tl::unexpected<error> bad(const std::string &name, fmt::format_string<Args...> format, Args &&...args) {
  return fail(reason::MetricsFileBad, "{}: {}", name, fmt::vformat(format, fmt::make_format_args(args...)));
}

// O_NONBLOCK, and a regular file only: a pipe of that name must not make the collector wait.
result<unique_fd> open_regular(const std::string &file) {
  unique_fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd && (errno == ENOENT || errno == ENOTDIR))
    return fail_errno(reason::MetricsFileMissing, errno, "there is no metrics file {}", file);
  if (!fd) return fail_errno(reason::MetricsFileBad, errno, "cannot open {}", file);
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return bad(file, "it is no regular file");
  return fd;
}

result<> read_at(int fd, char *to, uint64_t size, uint64_t offset, const std::string &name) {
  while (size > 0) {
    const ssize_t n = ::pread(fd, to, size, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(reason::MetricsFileBad, errno, "cannot read {}", name);
    if (n == 0) return bad(name, "it ends before what its header says");
    to += n;
    size -= static_cast<uint64_t>(n);
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

result<layout::header> check_header(const char *bytes, const std::string &name) {
  layout::header h{};
  std::memcpy(&h, bytes, sizeof h);
  if (std::memcmp(h.magic, layout::magic, sizeof h.magic) != 0) return bad(name, "it is no metrics file");
  if (h.version != layout::version)
    return bad(name, "it is of version {}; this Thole reads {}", h.version, layout::version);
  if (h.state != layout::open && h.state != layout::closed) return bad(name, "its state is {}", h.state);
  if (h.used < layout::header_size || h.used > layout::most_bytes || h.used % layout::unit != 0)
    return bad(name, "its size is said to be {}", h.used);
  return h;
}

file_mark mark_of(const layout::header &h) {
  return {{from_bytes(h.boot), h.pid, h.start_ticks}, from_bytes(h.generation), h.made_ns, h.state == layout::open};
}

// Bytes of one block, taken from the front.
class cursor {
 public:
  explicit cursor(std::string_view bytes) : rest_(bytes) {}
  bool good() const noexcept { return good_; }
  template <class T>
  T take() {
    T value{};
    const std::string_view bytes = text(sizeof(T));
    if (bytes.size() == sizeof(T)) std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
  std::string_view text(std::size_t size) {
    if (size > rest_.size()) {
      good_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }

 private:
  std::string_view rest_;
  bool good_ = true;
};

result<definition> parse_family(std::string_view bytes, std::size_t expected, const std::string &name) {
  cursor in(bytes);
  const auto h = in.take<layout::family_block>();
  if (h.number != expected || expected >= most_families || h.labels > most_labels || h.bounds > most_bounds)
    return bad(name, "family {} is out of order or too large", h.number);
  definition d;
  d.what = static_cast<kind>(h.kind);
  d.max_series = h.max_series;
  for (uint32_t i = 0; i < h.bounds; ++i) d.bounds.push_back(in.take<double>());
  d.name = in.text(h.name_size);
  d.help = in.text(h.help_size);
  d.unit = in.text(h.unit_size);
  for (uint32_t i = 0; i < h.labels; ++i) d.labels.emplace_back(in.text(in.take<uint32_t>()));
  if (!in.good()) return bad(name, "family {} is cut off", h.number);
  if (auto good = check(d); !good) return bad(name, "{}", good.error().text());
  return d;
}

result<file_series> parse_series(std::string_view bytes, const std::vector<definition> &families,
                                 const std::string &name) {
  cursor in(bytes);
  const auto h = in.take<layout::series_block>();
  if (h.family >= families.size()) return bad(name, "a series of the unknown family {}", h.family);
  const definition &d = families[h.family];
  if (h.values != d.labels.size() || h.buckets != d.buckets()) return bad(name, "a series does not match {}", d.name);
  file_series s;
  s.family = h.family;
  std::vector<std::string_view> values;
  for (uint32_t i = 0; i < h.values; ++i) values.push_back(in.text(in.take<uint32_t>()));
  if (!in.good()) return bad(name, "a series of {} is cut off", d.name);
  if (auto good = check_values(d, values); !good) return bad(name, "{}", good.error().text());
  s.values.assign(values.begin(), values.end());
  const uint64_t cell = h.cell;
  if (cell % layout::unit != 0 || cell < sizeof h || cell + layout::unit + uint64_t{h.buckets} * 8 > bytes.size())
    return bad(name, "a cell of {} lies outside of its block", d.name);
  std::memcpy(&s.said.value, bytes.data() + cell, sizeof s.said.value);
  s.said.buckets.resize(h.buckets);
  if (h.buckets > 0)
    std::memcpy(s.said.buckets.data(), bytes.data() + cell + layout::unit, h.buckets * sizeof(uint64_t));
  return s;
}

// Offsets of the words that a writer changes: values and buckets.
template <class Visit>
void each_word(std::string_view bytes, Visit visit) {
  for (uint64_t at = layout::header_size; at + layout::unit <= bytes.size();) {
    layout::series_block h{};
    std::memcpy(&h, bytes.data() + at, sizeof h);
    if (h.head.size < layout::unit || h.head.size > bytes.size() - at) return;
    if (h.head.kind == layout::series && h.cell < h.head.size && h.buckets <= most_bounds + 1 &&
        h.cell + layout::unit + h.buckets * 8 <= h.head.size) {
      visit(at + h.cell);
      for (uint32_t i = 0; i < h.buckets; ++i) visit(at + h.cell + layout::unit + i * 8);
    }
    at += h.head.size;
  }
}

// The kernel does not promise that a copy out of a page takes 8 bytes at once. A word that changes between two reads is
// therefore read until two reads agree; a number that was never there could otherwise make a counter jump for good.
result<> settle(int fd, std::string &bytes, const std::string &name) {
  std::string again(bytes.size(), '\0');
  THOLE_TRY(read_at(fd, again.data(), again.size(), 0, name));
  result<> done{};
  each_word(bytes, [&](uint64_t at) {
    for (int tries = 0; done && tries < 64 && std::memcmp(&bytes[at], &again[at], 8) != 0; ++tries) {
      std::memcpy(&bytes[at], &again[at], 8);
      done = read_at(fd, &again[at], 8, at, name);
    }
  });
  return done;
}

}  // namespace

result<file_mark> read_mark(const std::string &file) {
  THOLE_LET(const unique_fd fd, open_regular(file));
  char bytes[sizeof(layout::header)];
  THOLE_TRY(read_at(fd.get(), bytes, sizeof bytes, 0, file));
  THOLE_LET(const layout::header h, check_header(bytes, file));
  return mark_of(h);
}

result<file_content> read_content(const std::string &file) {
  THOLE_LET(const unique_fd fd, open_regular(file));
  char head[sizeof(layout::header)];
  THOLE_TRY(read_at(fd.get(), head, sizeof head, 0, file));
  THOLE_LET(const layout::header h, check_header(head, file));
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0 || static_cast<uint64_t>(st.st_size) < h.used)
    return bad(file, "it ends before what its header says");
  std::string bytes(h.used, '\0');
  THOLE_TRY(read_at(fd.get(), bytes.data(), bytes.size(), 0, file));
  THOLE_TRY(settle(fd.get(), bytes, file));
  std::memcpy(bytes.data(), head, sizeof head);  // `used` may have grown since
  return parse(bytes, file);
}

result<file_content> parse(std::string_view bytes, const std::string &name) {
  if (bytes.size() < layout::header_size) return bad(name, "it is shorter than its header");
  THOLE_LET(const layout::header h, check_header(bytes.data(), name));
  if (h.used > bytes.size()) return bad(name, "it ends before what its header says");
  file_content out;
  out.mark = mark_of(h);
  for (uint64_t at = layout::header_size; at < h.used;) {
    layout::block b{};
    std::memcpy(&b, bytes.data() + at, sizeof b);
    if (b.size < layout::unit || b.size % layout::unit != 0 || b.size > h.used - at ||
        at / layout::chunk != (at + b.size - 1) / layout::chunk)
      return bad(name, "the block at {} has the size {}", at, b.size);
    const std::string_view block = bytes.substr(at, b.size);
    if (b.kind == layout::family) {
      THOLE_LET(auto family, parse_family(block, out.families.size(), name));
      out.families.push_back(std::move(family));
    } else if (b.kind == layout::series) {
      THOLE_LET(auto series, parse_series(block, out.families, name));
      out.series.push_back(std::move(series));
    } else if (b.kind != layout::filler) {
      return bad(name, "the block at {} is of the unknown kind {}", at, b.kind);
    }
    at += b.size;
  }
  return out;
}

}  // namespace thole::metrics
