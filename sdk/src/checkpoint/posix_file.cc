#include "checkpoint/posix_file.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "checkpoint/read_queue.h"
#include "checkpoint/write_queue.h"

namespace thole::checkpoint {

tl::unexpected<error> refused(int e, std::string_view what, std::string_view path) noexcept {
  switch (e) {
    case EROFS:
    case EACCES:
    case EPERM:
      return fail_errno(reason::StoreReadOnly, e, "cannot {} {}", what, path);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return fail_errno(reason::StoreFull, e, "cannot {} {}", what, path);
    case ENOENT:
    case ENOTDIR:
    case ESTALE:
    case EIO:
    case ENODEV:
    case ENXIO:
    case ENOTCONN:
      return fail_errno(reason::StoreGone, e, "cannot {} {}", what, path);
    default:
      return fail_errno(reason::SystemCallFailed, e, "cannot {} {}", what, path);
  }
}

namespace {

// A small file goes through the page cache. A long one goes past it after its first bytes, asynchronously: encryption
// and the disk work side by side without a thread, the kernel copies nothing, and a node's page cache stays the job's.
// Where the file system does not do that, the disk is told early to begin.
class out final : public out_file {
 public:
  out(unique_fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  result<> write_at(uint64_t offset, octets bytes) override {
    THOLE_TRY(go_through_cache());
    THOLE_TRY(write_all_at(offset, bytes));
    end_ = std::max(end_, offset + bytes.size());
    if (end_ >= started_ + write_behind) {
      static_cast<void>(::sync_file_range(fd_.get(), static_cast<off_t>(started_), static_cast<off_t>(end_ - started_),
                                          SYNC_FILE_RANGE_WRITE));
      started_ = end_;
    }
    return {};
  }

  result<octets_out> block(std::size_t size) override {
    if (blocks_ == nullptr) blocks_ = std::make_unique<write_queue>(size);
    return blocks_->room();
  }

  result<> write_block(uint64_t offset, std::size_t size) override {
    if (offset >= direct_from && !tried_) go_past_cache();
    if (!blocks_->started()) return write_at(offset, octets(blocks_->room()).first(size));
    allocate(offset + size);
    end_ = std::max(end_, offset + size);
    const int e = blocks_->submit(offset, size);
    if (e == EAGAIN) return go_through_cache();
    if (e != 0) return refused(e, "write", path_);
    return {};
  }

  result<> sync() override {
    THOLE_TRY(go_through_cache());
    if (allocated_ > 0 && ::ftruncate(fd_.get(), static_cast<off_t>(end_)) != 0) return refused(errno, "cut", path_);
    if (::fsync(fd_.get()) != 0) return refused(errno, "sync", path_);
    return {};
  }

 private:
  result<> write_all_at(uint64_t offset, octets bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return refused(errno, "write", path_);
      offset += static_cast<std::size_t>(n);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
  }

  void go_past_cache() {
    tried_ = true;
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags | O_DIRECT) != 0) return;
    if (!blocks_->start(fd_.get())) static_cast<void>(::fcntl(fd_.get(), F_SETFL, flags));
  }

  // Waits for all blocks. Those that this file system does not take in that way are written in the other.
  result<> go_through_cache() {
    if (blocks_ == nullptr || !blocks_->started()) return {};
    if (const int e = blocks_->drain(); e != 0 && e != EAGAIN) return refused(e, "write", path_);
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, flags & ~O_DIRECT) != 0) return refused(errno, "write", path_);
    for (const write_queue::piece &p : blocks_->unwritten()) THOLE_TRY(write_all_at(p.offset, p.bytes));
    blocks_->stop();
    return {};
  }

  // A write beyond a file's end is not asynchronous, so its end runs ahead. If there is no room for that, or no way,
  // the write itself has the last word.
  void allocate(uint64_t needed) {
    if (needed <= allocated_ || !ahead_) return;
    allocated_ = needed + run_ahead;
    ahead_ = ::fallocate(fd_.get(), 0, static_cast<off_t>(end_), static_cast<off_t>(allocated_ - end_)) == 0;
  }

  static constexpr uint64_t direct_from = uint64_t{4} << 20;
  static constexpr uint64_t write_behind = uint64_t{8} << 20;
  static constexpr uint64_t run_ahead = uint64_t{64} << 20;
  unique_fd fd_;  // outlives what is in flight
  std::string path_;
  std::unique_ptr<write_queue> blocks_;
  uint64_t end_ = 0;        // of what was written
  uint64_t allocated_ = 0;  // up to here room was asked for: the file may end beyond end_
  uint64_t started_ = 0;    // up to here the disk was told to begin
  bool tried_ = false;
  bool ahead_ = true;
};

// A long run of blocks is fetched past the page cache while the blocks before are decrypted, unless it is there
// already.
class in final : public in_file {
 public:
  in(unique_fd fd, std::string path, uint64_t size) : fd_(std::move(fd)), path_(std::move(path)), size_(size) {}
  uint64_t size() const override { return size_; }

  result<> read_at(uint64_t offset, octets_out to) override {
    set_direct(false);
    while (!to.empty()) {
      const ssize_t n = ::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return refused(errno, "read", path_);
      if (n == 0)
        return fail(reason::CheckpointDamaged, "{} ends at {}; it was cut, restore an older step", path_, offset);
      offset += static_cast<std::size_t>(n);
      to = to.subspan(static_cast<std::size_t>(n));
    }
    return {};
  }

  result<octets> block_at(uint64_t offset, std::size_t size, uint64_t end) override {
    if (run_ == nullptr || run_->next() != offset) begin_run(offset, size, end);
    if (run_ != nullptr && run_->next() == offset) {
      if (const octets got = run_->take(); !got.empty()) return got;
      run_->stop();
      direct_ = false;  // what is wrong with it, the ordinary way finds and says
    }
    return in_file::block_at(offset, size, end);
  }

 private:
  void begin_run(uint64_t offset, std::size_t size, uint64_t end) {
    if (run_ != nullptr) run_->stop();
    if (!direct_ || offset % 4096 != 0 || end % 4096 != 0 || end > size_ || end < offset + long_run) return;
    if (is_cached(offset + (end - offset) / 2)) return;
    if (run_ == nullptr || run_->block_size() != size) run_ = std::make_unique<read_queue>(size);
    direct_ = set_direct(true) && run_->start(fd_.get(), offset, end);
  }
  bool is_cached(uint64_t offset) const noexcept {
    unsigned char one = 0;
    const iovec to{&one, 1};
    return ::preadv2(fd_.get(), &to, 1, static_cast<off_t>(offset), RWF_NOWAIT) == 1;
  }
  bool set_direct(bool wanted) noexcept {
    if (wanted == set_) return true;
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd_.get(), F_SETFL, wanted ? flags | O_DIRECT : flags & ~O_DIRECT) != 0) return false;
    set_ = wanted;
    return true;
  }

  static constexpr uint64_t long_run = uint64_t{8} << 20;
  unique_fd fd_;
  std::string path_;
  uint64_t size_;
  std::unique_ptr<read_queue> run_;
  bool direct_ = true;  // until this file system or kernel refuses
  bool set_ = false;    // O_DIRECT, on fd_
};

}  // namespace

std::unique_ptr<out_file> posix_out(unique_fd fd, std::string path) {
  return std::make_unique<out>(std::move(fd), std::move(path));
}

std::unique_ptr<in_file> posix_in(unique_fd fd, std::string path, uint64_t size) {
  return std::make_unique<in>(std::move(fd), std::move(path), size);
}

}  // namespace thole::checkpoint
