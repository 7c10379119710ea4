// base/journal.h: records that several processes append to one file, and that survive a kill and a power cut.
//
// A folder holds two files, NAME.lock and NAME.journal. Every access is made under an OFD lock on the first: shared to
// read, exclusive to write. The second is
//   header   "THOLEJNL", version (u32), zero (u32), 16 random bytes, the first 8 bytes of the SHA-256 of all that
//   record   length (u32), check (u32) of the length, payload, sum (16 bytes)
// in little-endian. `sum` is cut from the SHA-256 of the sum before (the header's bytes for the first), the length and
// the payload, so that no record can be changed, left out or moved. `check` is cut from the same over the length alone,
// so that a damaged length is not taken for a record that was never finished.
//
// A record that the file does not hold whole, or that is the last and does not match its sum, was being written when
// its process or the machine died: it is cut off by the next writer. Anything else that does not match is
// JournalDamaged. rewrite() puts a new file in the place of the old; other processes see another inode and read anew.
#pragma once

#include <sys/types.h>

#include <array>
#include <functional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/lock_fd.h"
#include "base/status.h"

namespace thole {

class journal {
 public:
  static constexpr uint32_t most_payload = 1u << 30;

  // Makes folder and files if they are missing. Fails: StateNotPrivate, StateUnwritable.
  static result<journal> open(const std::string &folder, const std::string &name, uint32_t version);

  struct reader {
    std::function<void()> reset;                             // the file is another one: forget all
    std::function<result<>(std::string_view payload)> next;  // records, in order
  };

  enum class access { read, write };
  // Holds the folder's lock while it lives. Waits for other processes, and for other journals of this one, for 30 s.
  class hold {
   public:
    hold(hold &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    hold &operator=(hold &&) = delete;
    ~hold();

   private:
    friend class journal;
    explicit hold(int fd) noexcept : fd_(fd) {}
    int fd_;
  };
  result<hold> lock(access how);

  // Whether nothing was appended since the last catch_up; without the lock, so only a hint.
  bool is_current() const noexcept;

  // Under a lock: reads what was appended since. Under a write lock an unfinished record is cut off.
  // Fails: JournalDamaged, StateNewer, and what `to` answers; the journal is then to be dropped.
  result<> catch_up(const hold &, access how, const reader &to);

  // Under a write lock, caught up: appends and syncs. On failure the file is as before. The journal still stands
  // before the record, and would read it next, until pass().
  result<> append(const hold &, std::string_view payload);
  void pass() noexcept {
    end_ = appended_end_;
    last_ = appended_;
  }

  // The same, with a new file that holds only this record.
  result<> rewrite(const hold &, std::string_view payload);

  uint64_t size() const noexcept { return end_; }
  bool cut_off() const noexcept { return cut_off_; }  // an unfinished record was dropped by the last catch_up

 private:
  using digest = std::array<unsigned char, 16>;
  journal() = default;
  static digest chain(const digest &before, uint32_t length, std::string_view payload);
  static uint32_t length_check(const digest &before, uint32_t length);
  static std::string frame(const digest &before, std::string_view payload, digest &after);
  result<std::string> fresh_header() const;
  result<> read_header();
  result<> read_records(access how, const reader &to);
  result<> open_current(access how, const reader &to);

  std::string folder_, path_, lock_path_;
  uint32_t version_ = 0;
  lock_fd lock_;
  unique_fd file_;
  ino_t inode_ = 0;
  dev_t device_ = 0;
  uint64_t end_ = 0;  // of the last good record
  digest last_{};
  uint64_t appended_end_ = 0;  // what end_ and last_ are after the record that was appended
  digest appended_{};
  bool cut_off_ = false;
};

}  // namespace thole
