// checkpoint/store.h: the few operations on files that a store must have, so that tests can record, reorder and fail
// them. Paths are relative to the store's folder; "" is the folder itself and ".." the folder that holds it.
//
// Durability is exactly what the names say: bytes are durable after out_file::sync, names after sync_folder of their
// folder. publish is atomic and never replaces.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/octets.h"

namespace thole::checkpoint {

class out_file {
 public:
  virtual ~out_file() = default;
  virtual result<> write_at(uint64_t offset, octets bytes) = 0;
  // Memory for the next block of a long file, the same until write_block, which writes its first `size` bytes. That may
  // come back before they are written: then a failure is told by a call that follows, by sync at the latest. Blocks
  // have one size, begin and end at pages, and are not mixed with write_at.
  virtual result<octets_out> block(std::size_t size);
  virtual result<> write_block(uint64_t offset, std::size_t size);
  virtual result<> sync() = 0;  // a failure is final: the file is not to be tried again

 private:
  std::vector<unsigned char> block_;
};

class in_file {
 public:
  virtual ~in_file() = default;
  virtual uint64_t size() const = 0;
  virtual result<> read_at(uint64_t offset, octets_out to) = 0;  // exactly, or CheckpointDamaged
  // A block of `size` bytes, or what of it is before `end`, until the next call. The caller goes on with the blocks
  // behind it, up to `end`.
  virtual result<octets> block_at(uint64_t offset, std::size_t size, uint64_t end);

 private:
  std::vector<unsigned char> block_;
};

struct store_entry {
  std::string name;
  bool folder = false;
};

class store {
 public:
  virtual ~store() = default;
  virtual std::string place(const std::string &path) const = 0;  // for sentences and for people
  virtual result<bool> is_there() = 0;                           // the store's own folder
  virtual result<> make_folder(const std::string &path) = 0;     // existing is fine; the parent is not synced
  virtual result<> sync_folder(const std::string &path) = 0;
  virtual result<std::unique_ptr<out_file>> create(const std::string &path) = 0;     // must not exist
  virtual result<std::unique_ptr<in_file>> open(const std::string &path) = 0;        // NULL if there is none
  virtual result<bool> publish(const std::string &from, const std::string &to) = 0;  // false: `to` is taken
  virtual result<> remove(const std::string &path) = 0;                              // missing is fine
  virtual result<> remove_folder(const std::string &path) = 0;                       // missing or not empty is fine
  virtual result<std::vector<store_entry>> list(const std::string &path) = 0;        // by name; missing is empty
};

std::unique_ptr<store> posix_store(std::string folder);

// A whole small file; empty optional if there is none.
result<std::optional<std::string>> read_small(store &files, const std::string &path, std::size_t most);

// Writes a file under another name, syncs it, publishes it. The folder is not synced. False: the name was taken, and
// what is there stays.
result<bool> put_if_absent(store &files, const std::string &path, octets content);

// A name beside `path` that no other writer has.
result<std::string> temporary_name(const std::string &path);
bool is_temporary(std::string_view name) noexcept;

}  // namespace thole::checkpoint
