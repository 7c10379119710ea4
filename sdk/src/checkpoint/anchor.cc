// The anchor: one line outside the store that remembers the newest checkpoint seen.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>

#include "base/file.h"
#include "base/lock_fd.h"
#include "base/text.h"
#include "checkpoint/history.h"

namespace thole::checkpoint {
namespace {

constexpr std::string_view prefix = "thole-anchor-1 ";

std::string encode(const anchor_state &a) {
  return fmt::format("{}{} {} {} {} {}\n", prefix, to_text(a.run), a.attempt, a.sequence, a.step, hex(a.manifest));
}

std::optional<digest32> parse_hex(std::string_view text) {
  digest32 out;
  if (text.size() != 64) return std::nullopt;
  for (std::size_t i = 0; i < 32; ++i) {
    const auto [end, problem] = std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, out[i], 16);
    if (problem != std::errc{} || end != text.data() + 2 * i + 2) return std::nullopt;
  }
  return out;
}

std::optional<anchor_state> parse(std::string_view text) {
  if (!text.starts_with(prefix)) return std::nullopt;
  std::vector<std::string_view> words;
  std::string_view rest = text.substr(prefix.size());
  while (!rest.empty()) {
    const auto end = rest.find_first_of(" \n");
    words.push_back(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
  }
  if (words.size() != 5) return std::nullopt;
  const auto run = parse_id(words[0]);
  const auto attempt = parse_u64(words[1]);
  const auto sequence = parse_u64(words[2]);
  const auto step = parse_u64(words[3]);
  const auto hash = parse_hex(words[4]);
  if (!run || !attempt || !sequence || !step || !hash) return std::nullopt;
  anchor_state out{*run, *attempt, *sequence, *step, *hash};
  if (encode(out) != text) return std::nullopt;
  return out;
}

result<std::optional<anchor_state>> read_anchor(const target &t) {
  auto opened = open_file(t.anchor, O_RDONLY | O_NONBLOCK);
  if (!opened) {
    if (opened.error().os_errno == ENOENT) return std::optional<anchor_state>{};
    return tl::unexpected(opened.error());
  }
  struct stat s {};
  if (fstat(opened->get(), &s) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot look at {}", t.anchor);
  if (!S_ISREG(s.st_mode) || (s.st_mode & 022) != 0)
    return fail(reason::StateNotPrivate, "others may write to the anchor {}: chmod go-w it", t.anchor);
  THOLE_LET(const std::string text, read_all(opened->get(), 4096, t.anchor));
  const auto a = parse(text);
  if (!a)
    return fail(reason::CheckpointRolledBack, "the anchor {} is damaged: delete it if you trust the store", t.anchor);
  if (a->run != t.run)
    return fail(reason::ArgumentBad, "the anchor {} is of run {}: name one file for each run", t.anchor,
                to_text(a->run));
  return a;
}

uint64_t highest_attempt(const fences &f, const std::optional<committed> &newest) {
  return std::max(f.newest, newest ? newest->body.attempt : 0);
}

}  // namespace

result<bool> check_anchor(const target &t, const fences &f, const std::optional<committed> &newest) {
  if (t.anchor.empty()) return false;
  THOLE_LET(const auto a, read_anchor(t));
  if (!a) return false;
  const uint64_t sequence = newest ? newest->body.sequence : 0;
  const bool other = a->sequence > 0 && sequence == a->sequence && newest->hash != a->manifest;
  if (sequence < a->sequence || other || highest_attempt(f, newest) < a->attempt)
    return fail(reason::CheckpointRolledBack,
                "the anchor {} has seen commit {} (step {}, attempt {}); the store shows {}: bring the store back, or "
                "delete the anchor if the loss is accepted",
                t.anchor, a->sequence, a->step, a->attempt, other ? "another history" : "an older one");
  return true;
}

result<> update_anchor(const target &t, const fences &f, const std::optional<committed> &newest) {
  if (t.anchor.empty()) return {};
  // Processes of one machine may share an anchor: the folder's lock keeps an older writer from being the last.
  THOLE_LET(unique_fd opened, open_file(split_path(t.anchor).first, O_RDONLY | O_DIRECTORY));
  const lock_fd folder(std::move(opened));
  while (::flock(folder.get(), LOCK_EX) != 0)
    if (errno != EINTR) return fail_errno(reason::SystemCallFailed, errno, "cannot lock the folder of {}", t.anchor);
  THOLE_LET(const auto before, read_anchor(t));
  anchor_state next{t.run, highest_attempt(f, newest), 0, 0, {}};
  if (newest) next = {t.run, next.attempt, newest->body.sequence, newest->body.step, newest->hash};
  if (before) {
    if (before->sequence > next.sequence)
      next = {t.run, next.attempt, before->sequence, before->step, before->manifest};
    next.attempt = std::max(next.attempt, before->attempt);
    if (encode(next) == encode(*before)) return {};
  }
  return replace_file(t.anchor, encode(next));
}

}  // namespace thole::checkpoint
