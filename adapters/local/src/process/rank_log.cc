#include "process/rank_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>

#include "base/log.h"

namespace thole::local {

rank_log::rank_log(std::string file, unique_fd from, std::function<void(const std::string &)> line)
    : file_(std::move(file)), from_(std::move(from)), line_(std::move(line)) {
  ::fcntl(from_.get(), F_SETFL, O_NONBLOCK);
  to_ = unique_fd(::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat s {};
  if (to_ && ::fstat(to_.get(), &s) == 0) size_ = static_cast<std::size_t>(s.st_size);
  if (!to_) warn("the log {} cannot be written: what the rank prints is lost", file_);
}

bool rank_log::drain() {
  char piece[65536];
  for (int turns = 0; turns < 16; ++turns) {  // a rank that never stops printing must not keep the others waiting
    const ssize_t n = ::read(from_.get(), piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    if (n == 0) {
      if (!partial_.empty()) end_line();
      return false;
    }
    write(piece, static_cast<std::size_t>(n));
    cut_lines(piece, static_cast<std::size_t>(n));
  }
  return true;
}

void rank_log::write(const char *data, std::size_t size) {
  if (size_ + size > most_file_bytes) {
    ::rename(file_.c_str(), (file_ + ".1").c_str());
    to_ = unique_fd(::open(file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    size_ = 0;
  }
  while (to_ && size > 0) {
    const ssize_t n = ::write(to_.get(), data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;  // a full disk loses lines; it does not end the job
    data += n;
    size -= static_cast<std::size_t>(n);
    size_ += static_cast<std::size_t>(n);
  }
}

void rank_log::cut_lines(const char *data, std::size_t size) {
  for (std::string_view rest(data, size); !rest.empty();) {
    const std::size_t end = rest.find('\n');
    const std::string_view piece = rest.substr(0, end);
    if (partial_.size() < most_line_bytes) partial_.append(piece.substr(0, most_line_bytes - partial_.size()));
    if (end == std::string_view::npos) return;
    end_line();
    rest.remove_prefix(end + 1);
  }
}

void rank_log::end_line() {
  if (!partial_.empty() && partial_.back() == '\r') partial_.pop_back();
  last_.push_back(partial_);
  if (last_.size() > last_lines) last_.pop_front();
  line_(partial_);
  partial_.clear();
}

}  // namespace thole::local
