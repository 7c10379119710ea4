#include "base/journal.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "base/id.h"

namespace thole {

namespace {

constexpr std::string_view magic = "THOLEJNL";
constexpr std::size_t header_size = 40;  // magic 8, version 4, zero 4, salt 16, check 8
constexpr std::size_t frame_size = 8;    // length 4, check 4
constexpr std::size_t sum_size = 16;
constexpr int64_t most_wait_ns = 30'000'000'000;

std::array<unsigned char, 32> sha256(std::initializer_list<std::string_view> parts) {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> md(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::array<unsigned char, 32> out{};
  if (!md || EVP_DigestInit_ex(md.get(), EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
  for (std::string_view part : parts)
    if (EVP_DigestUpdate(md.get(), part.data(), part.size()) != 1) throw std::bad_alloc();
  if (EVP_DigestFinal_ex(md.get(), out.data(), nullptr) != 1) throw std::bad_alloc();
  return out;
}

void put_u32(std::string &to, uint32_t v) {
  for (int i = 0; i < 4; ++i) to.push_back(static_cast<char>(v >> (8 * i)));
}
uint32_t get_u32(const char *p) {
  uint32_t v = 0;
  for (int i = 3; i >= 0; --i) v = v << 8 | static_cast<unsigned char>(p[i]);
  return v;
}
template <class Array>
std::string_view text_of(const Array &bytes) {
  return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}
std::string u32_text(uint32_t v) {
  std::string s;
  put_u32(s, v);
  return s;
}

// Nobody else may have a hand in it: neither another owner nor others' write permission.
result<> check_private(const struct stat &st, const std::string &path) {
  if (st.st_uid != ::geteuid())
    return fail(reason::StateNotPrivate, "{} belongs to uid {}, not to this user: choose another state folder", path,
                st.st_uid);
  if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return fail(reason::StateNotPrivate, "others may write to {}: chmod 700 it", path);
  return {};
}

result<> read_at(int fd, char *to, std::size_t size, uint64_t at, const std::string &path) {
  while (size > 0) {
    const ssize_t n = ::pread(fd, to, size, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(reason::SystemCallFailed, errno, "cannot read {}", path);
    if (n == 0) return fail(reason::JournalDamaged, "{} has become shorter while it was read", path);
    to += n;
    at += static_cast<uint64_t>(n);
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

}  // namespace

journal::hold::~hold() {
  if (fd_ < 0) return;
  struct flock what {};
  what.l_type = F_UNLCK;
  what.l_whence = SEEK_SET;
  ::fcntl(fd_, F_OFD_SETLK, &what);
}

result<journal> journal::open(const std::string &folder, const std::string &name, uint32_t version) {
  journal j;
  j.folder_ = folder;
  j.path_ = folder + "/" + name + ".journal";
  j.lock_path_ = folder + "/" + name + ".lock";
  j.version_ = version;
  if (auto made = make_folder(folder); !made)
    return fail_errno(reason::StateUnwritable, made.error().os_errno, "the state folder {} cannot be made", folder);
  struct stat st {};
  if (::stat(folder.c_str(), &st) != 0)
    return fail_errno(reason::StateUnwritable, errno, "the state folder {} cannot be read", folder);
  if (!S_ISDIR(st.st_mode)) return fail(reason::StateUnwritable, "{} is not a folder", folder);
  THOLE_TRY(check_private(st, folder));
  auto lock = open_file(j.lock_path_, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (!lock)
    return fail_errno(reason::StateUnwritable, lock.error().os_errno, "the state folder {} cannot be written", folder);
  j.lock_ = lock_fd(std::move(*lock));
  if (::fstat(j.lock_.get(), &st) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot stat a lock file");
  THOLE_TRY(check_private(st, j.lock_path_));
  return j;
}

result<journal::hold> journal::lock(access how) {
  struct flock what {};
  what.l_type = how == access::write ? F_WRLCK : F_RDLCK;
  what.l_whence = SEEK_SET;
  // A process that was stopped in the middle must not stop all others for ever, so this waits by trying: 50 us at
  // first, then up to 5 ms. What is slept is counted; no clock is asked.
  int64_t slept_ns = 0;
  for (int64_t nap_ns = 50'000; ::fcntl(lock_.get(), F_OFD_SETLK, &what) != 0;) {
    if (errno != EAGAIN && errno != EACCES && errno != EINTR)
      return fail_errno(reason::SystemCallFailed, errno, "cannot lock {}", lock_path_);
    if (slept_ns >= most_wait_ns)
      return fail(reason::StateBusy, "another process has held {} for 30 s: end it, or wait for it", lock_path_);
    const timespec nap{0, nap_ns};
    ::nanosleep(&nap, nullptr);
    slept_ns += nap_ns;
    nap_ns = std::min<int64_t>(nap_ns * 2, 5'000'000);
  }
  return hold(lock_.get());
}

bool journal::is_current() const noexcept {
  struct stat st {};
  return file_ && ::stat(path_.c_str(), &st) == 0 && st.st_ino == inode_ && st.st_dev == device_ &&
         static_cast<uint64_t>(st.st_size) == end_;
}

journal::digest journal::chain(const digest &before, uint32_t length, std::string_view payload) {
  const auto full = sha256({text_of(before), u32_text(length), payload});
  digest out;
  std::copy_n(full.begin(), out.size(), out.begin());
  return out;
}

uint32_t journal::length_check(const digest &before, uint32_t length) {
  const auto full = sha256({"length", text_of(before), u32_text(length)});
  return get_u32(reinterpret_cast<const char *>(full.data()));
}

std::string journal::frame(const digest &before, std::string_view payload, digest &after) {
  const auto length = static_cast<uint32_t>(payload.size());
  after = chain(before, length, payload);
  std::string out;
  out.reserve(frame_size + payload.size() + sum_size);
  put_u32(out, length);
  put_u32(out, length_check(before, length));
  out.append(payload);
  out.append(text_of(after));
  return out;
}

result<std::string> journal::fresh_header() const {
  std::string out(magic);
  put_u32(out, version_);
  put_u32(out, 0);
  char salt[16];
  THOLE_TRY(random_bytes(salt, sizeof salt));
  out.append(salt, sizeof salt);
  out.append(text_of(sha256({out})).substr(0, 8));
  return out;
}

result<> journal::read_header() {
  char bytes[header_size];
  struct stat st {};
  if (::fstat(file_.get(), &st) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot stat {}", path_);
  // The file appears whole (rename), so a short one is not a crash of ours.
  if (static_cast<uint64_t>(st.st_size) < header_size)
    return fail(reason::JournalDamaged, "{} has no complete header: keep a copy and start with a new state folder",
                path_);
  THOLE_TRY(read_at(file_.get(), bytes, header_size, 0, path_));
  const std::string_view all(bytes, header_size);
  if (all.substr(0, 8) != magic) return fail(reason::JournalDamaged, "{} is not a Thole journal", path_);
  // The version comes before the check: a newer header may be made otherwise.
  if (const uint32_t v = get_u32(bytes + 8); v > version_)
    return fail(reason::StateNewer, "{} has version {}, this library reads up to {}: use a newer Thole", path_, v,
                version_);
  if (all.substr(32) != text_of(sha256({all.substr(0, 32)})).substr(0, 8))
    return fail(reason::JournalDamaged, "the header of {} does not match its checksum", path_);
  const auto full = sha256({all});
  std::copy_n(full.begin(), last_.size(), last_.begin());
  end_ = header_size;
  inode_ = st.st_ino;
  device_ = st.st_dev;
  return {};
}

// Opens the file that the path names now, if it is not the one that is open.
result<> journal::open_current(access how, const reader &to) {
  struct stat st {};
  const bool there = ::stat(path_.c_str(), &st) == 0;
  if (there && file_ && st.st_ino == inode_ && st.st_dev == device_) return {};
  if (!there && errno != ENOENT) return fail_errno(reason::SystemCallFailed, errno, "cannot stat {}", path_);
  if (!there && file_) return fail(reason::JournalDamaged, "{} has been removed while it was in use", path_);
  if (!there && how == access::read) return {};
  if (!there) {
    THOLE_LET(const std::string header, fresh_header());
    THOLE_TRY(replace_file(path_, header));
  }
  THOLE_LET(file_, open_file(path_, O_RDWR | O_NOFOLLOW));
  if (::fstat(file_.get(), &st) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot stat {}", path_);
  THOLE_TRY(check_private(st, path_));
  to.reset();
  return read_header();
}

result<> journal::catch_up(const hold &, access how, const reader &to) {
  cut_off_ = false;
  THOLE_TRY(open_current(how, to));
  return file_ ? read_records(how, to) : result<>{};
}

result<> journal::read_records(access how, const reader &to) {
  struct stat st {};
  if (::fstat(file_.get(), &st) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot stat {}", path_);
  const auto size = static_cast<uint64_t>(st.st_size);
  if (size < end_) return fail(reason::JournalDamaged, "{} is shorter than what was read of it", path_);
  std::string rest(size - end_, '\0');
  THOLE_TRY(read_at(file_.get(), rest.data(), rest.size(), end_, path_));
  std::size_t at = 0;
  while (at < rest.size()) {
    const std::size_t left = rest.size() - at;
    if (left < frame_size) break;
    const uint32_t length = get_u32(rest.data() + at);
    if (length > most_payload || get_u32(rest.data() + at + 4) != length_check(last_, length)) {
      // A power cut may leave zeros where a record was to be; anything else has been damaged.
      const auto from = rest.begin() + static_cast<std::ptrdiff_t>(at);
      if (std::all_of(from, rest.end(), [](char c) { return c == 0; })) break;
      return fail(reason::JournalDamaged,
                  "the record at byte {} of {} has a damaged length: keep a copy and start "
                  "with a new state folder",
                  end_, path_);
    }
    const uint64_t whole = frame_size + uint64_t{length} + sum_size;
    if (left < whole) break;
    const std::string_view payload(rest.data() + at + frame_size, length);
    const digest sum = chain(last_, length, payload);
    if (std::memcmp(sum.data(), payload.data() + length, sum_size) != 0) {
      if (left == whole) break;
      return fail(reason::JournalDamaged,
                  "the record at byte {} of {} does not match its checksum: keep a copy and "
                  "start with a new state folder",
                  end_, path_);
    }
    THOLE_TRY(to.next(payload));
    last_ = sum;
    end_ += whole;
    at += whole;
  }
  if (at == rest.size()) return {};
  cut_off_ = true;
  if (how == access::read) return {};
  if (::ftruncate(file_.get(), static_cast<off_t>(end_)) != 0 || ::fdatasync(file_.get()) != 0)
    return fail_errno(reason::SystemCallFailed, errno, "cannot cut the unfinished record off {}", path_);
  return {};
}

result<> journal::append(const hold &, std::string_view payload) {
  if (payload.size() > most_payload)
    return fail(reason::OverBound, "a journal record of {} bytes; {} are the most", payload.size(), most_payload);
  digest after{};
  const std::string bytes = frame(last_, payload, after);
  auto write = [&]() -> result<> {
    if (::lseek(file_.get(), static_cast<off_t>(end_), SEEK_SET) < 0)
      return fail_errno(reason::SystemCallFailed, errno, "cannot seek in {}", path_);
    THOLE_TRY(write_all(file_.get(), bytes.data(), bytes.size(), path_));
    if (::fdatasync(file_.get()) != 0) return fail_errno(reason::SystemCallFailed, errno, "cannot sync {}", path_);
    return {};
  };
  if (auto done = write(); !done) {
    // What cannot be cut off is an unfinished record, or one that was not answered: the next reader decides.
    if (::ftruncate(file_.get(), static_cast<off_t>(end_)) != 0) return done;
    return done;
  }
  appended_ = after;
  appended_end_ = end_ + bytes.size();
  return {};
}

result<> journal::rewrite(const hold &, std::string_view payload) {
  if (payload.size() > most_payload)
    return fail(reason::OverBound, "a journal record of {} bytes; {} are the most", payload.size(), most_payload);
  THOLE_LET(std::string content, fresh_header());
  digest first, after;
  const auto full = sha256({content});
  std::copy_n(full.begin(), first.size(), first.begin());
  content += frame(first, payload, after);
  THOLE_TRY(replace_file(path_, content));
  THOLE_LET(file_, open_file(path_, O_RDWR | O_NOFOLLOW));
  THOLE_TRY(read_header());
  end_ = content.size();
  last_ = after;
  return {};
}

}  // namespace thole
