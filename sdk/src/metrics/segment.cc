#include "metrics/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "metrics/process.h"
#include "metrics/reader.h"

namespace thole::metrics {
namespace {

uint64_t unix_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

// Whether what has the wanted name may be replaced: nothing of anybody's, and nothing that a living process writes.
result<> check_replaceable(const std::string &file) {
  struct stat st {};
  if (::stat(file.c_str(), &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0) return {};
  auto known = read_mark(file);
  if (!known)
    return fail(reason::MetricsFileBad, "{} is there and is no metrics file: remove it or choose another name", file);
  if (known->open && lives(known->process))
    return fail(reason::MetricsFileTaken, "process {} writes its metrics to {}: give each process a file of its own",
                known->process.pid, file);
  return {};
}

// Gives a complete file its name: link() never replaces what somebody else has made meanwhile.
result<> give_name(const std::string &temporary, const std::string &file) {
  if (::link(temporary.c_str(), file.c_str()) == 0) {
    ::unlink(temporary.c_str());
    return {};
  }
  if (errno == EEXIST) THOLE_TRY(check_replaceable(file));
  if (::rename(temporary.c_str(), file.c_str()) != 0)
    return fail_errno(reason::SystemCallFailed, errno, "cannot name the metrics file {}", file);
  return {};
}

}  // namespace

segment::segment(segment &&other) noexcept
    : fd_(std::move(other.fd_)),
      file_(std::move(other.file_)),
      header_(std::exchange(other.header_, nullptr)),
      chunk_(other.chunk_),
      chunk_begin_(other.chunk_begin_),
      end_(other.end_),
      used_(other.used_),
      next_(other.next_),
      generation_(other.generation_) {}

segment::~segment() {
  if (header_ != nullptr) std::atomic_ref(header_->state).store(layout::closed, std::memory_order_release);
}

result<segment> segment::make(const std::string &file) {
  segment s;
  s.file_ = file;
  THOLE_LET(s.generation_, random_id());
  THOLE_LET(const process_mark mark, this_process());
  const std::string temporary = file + "." + to_text(s.generation_).substr(0, 8) + ".tmp";
  if (!file.empty()) {
    if (::access(file.c_str(), F_OK) == 0) THOLE_TRY(check_replaceable(file));
    THOLE_LET(s.fd_, open_file(temporary, O_RDWR | O_CREAT | O_EXCL, 0600));
  }
  const auto fill = [&]() -> result<> {
    THOLE_TRY(s.map_chunk());
    auto *h = reinterpret_cast<layout::header *>(s.chunk_);
    std::memcpy(h->magic, layout::magic, sizeof h->magic);
    h->version = layout::version;
    h->state = layout::open;
    std::memcpy(h->boot, to_bytes(mark.boot).data(), sizeof h->boot);
    h->pid = mark.pid;
    h->start_ticks = mark.start_ticks;
    std::memcpy(h->generation, to_bytes(s.generation_).data(), sizeof h->generation);
    h->made_ns = unix_ns();
    h->used = s.used_ = layout::header_size;
    if (!file.empty()) THOLE_TRY(give_name(temporary, file));
    s.header_ = h;
    return {};
  };
  if (auto done = fill(); !done) {
    if (!file.empty()) ::unlink(temporary.c_str());
    return tl::unexpected(done.error());
  }
  return s;
}

result<> segment::map_chunk() {
  if (end_ + layout::chunk > layout::most_bytes)
    return fail(reason::MetricsFull, "the metrics of this process have reached {} MiB: define fewer series",
                layout::most_bytes >> 20);
  const auto offset = static_cast<off_t>(end_);
  // Blocks first: a page that the disk has no room for would be a SIGBUS in somebody's addition.
  if (fd_) {
    int e = 0;
    do e = ::posix_fallocate(fd_.get(), offset, layout::chunk);
    while (e == EINTR);
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
      return fail_errno(reason::StoreFull, e, "there is no room for the metrics file {}", file_);
    if (e != 0) return fail_errno(reason::SystemCallFailed, e, "cannot allocate blocks of {}", file_);
  }
  void *p = ::mmap(nullptr, layout::chunk, PROT_READ | PROT_WRITE, fd_ ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS,
                   fd_ ? fd_.get() : -1, fd_ ? offset : 0);
  if (p == MAP_FAILED) return fail_errno(reason::OutOfMemory, errno, "cannot map memory for metrics");
  chunk_ = static_cast<char *>(p);
  chunk_begin_ = end_;
  end_ += layout::chunk;
  return {};
}

result<char *> segment::reserve(layout::block_kind kind, uint64_t size) {
  size = layout::rounded(size);
  uint64_t begin = used_;
  if (begin + size > end_) {
    const uint64_t left = end_ - begin;
    char *rest = left > 0 ? at(begin) : nullptr;
    const uint64_t full = end_;
    THOLE_TRY(map_chunk());
    if (rest != nullptr) {
      const layout::block filler{layout::filler, static_cast<uint32_t>(left)};
      std::memcpy(rest, &filler, sizeof filler);
    }
    begin = full;
  }
  char *p = at(begin);
  std::memset(p, 0, size);  // an earlier reserve may have failed half-way
  const layout::block head{kind, static_cast<uint32_t>(size)};
  std::memcpy(p, &head, sizeof head);
  next_ = begin + size;
  return p;
}

void segment::publish() noexcept {
  used_ = next_;
  std::atomic_ref(header_->used).store(used_, std::memory_order_release);
}

}  // namespace thole::metrics
