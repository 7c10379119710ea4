// A store in memory that records every operation, can fail or drop one, and can be rebuilt as a crash may have left it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "checkpoint/store.h"

namespace thole::checkpoint::test {

struct inode {
  std::string bytes;
  bool folder = false;
};

// One recorded operation. Names are entries of folders; a file is known by its inode.
struct operation {
  enum class kind { write, sync_file, entry, sync_folder } what{};
  uint64_t node = 0;    // write, sync_file
  uint64_t offset = 0;  // write
  std::string bytes;    // write
  std::string folder;   // entry, sync_folder
  // entry: all of these at once; 0 removes the name
  std::vector<std::pair<std::string, uint64_t>> names;
  bool is_folder = false;
};

// What a test wants to happen instead of an operation.
enum class outcome { normal, drop, no_space, read_only };

struct disk {
  std::map<std::string, uint64_t> names;  // path -> inode; "" is the store's folder
  std::map<uint64_t, inode> nodes;
  uint64_t next = 1;
  std::vector<operation> log;
  bool recording = true;
  // Called with what is done ("create", "write", "sync", "sync-folder", "publish", "make", "remove") and the path.
  std::function<outcome(const std::string &, const std::string &)> decide = [](auto &, auto &) {
    return outcome::normal;
  };

  void record(operation o) {
    if (recording) log.push_back(std::move(o));
  }
};

inline std::string parent_of(const std::string &path) {
  if (path.empty()) return "..";
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

inline tl::unexpected<error> failed(outcome o, const std::string &path) {
  if (o == outcome::no_space) return fail(reason::StoreFull, "no space for {}", path);
  return fail(reason::StoreReadOnly, "{} cannot be written", path);
}

class memory_out final : public out_file {
 public:
  memory_out(disk &d, std::string path, uint64_t node) : disk_(d), path_(std::move(path)), node_(node) {}
  result<> write_at(uint64_t offset, octets bytes) override {
    const outcome o = disk_.decide("write", path_);
    if (o != outcome::normal && o != outcome::drop) return failed(o, path_);
    std::string &to = disk_.nodes[node_].bytes;
    if (to.size() < offset + bytes.size()) to.resize(offset + bytes.size());
    std::copy(bytes.begin(), bytes.end(), to.begin() + static_cast<std::ptrdiff_t>(offset));
    operation w;
    w.what = operation::kind::write;
    w.node = node_;
    w.offset = offset;
    w.bytes = text_of(bytes);
    disk_.record(std::move(w));
    return {};
  }
  result<> sync() override {
    const outcome o = disk_.decide("sync", path_);
    if (o == outcome::drop) return {};
    if (o != outcome::normal) return failed(o, path_);
    operation s;
    s.what = operation::kind::sync_file;
    s.node = node_;
    disk_.record(std::move(s));
    return {};
  }

 private:
  disk &disk_;
  std::string path_;
  uint64_t node_;
};

class memory_in final : public in_file {
 public:
  memory_in(std::string bytes, std::string path) : bytes_(std::move(bytes)), path_(std::move(path)) {}
  uint64_t size() const override { return bytes_.size(); }
  result<> read_at(uint64_t offset, octets_out to) override {
    if (offset > bytes_.size() || to.size() > bytes_.size() - offset)
      return fail(reason::CheckpointDamaged, "{} was cut", path_);
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
    return {};
  }

 private:
  std::string bytes_;
  std::string path_;
};

class memory_store final : public store {
 public:
  explicit memory_store(disk &d) : disk_(d) {}
  std::string place(const std::string &path) const override { return "memory:" + path; }
  result<bool> is_there() override { return disk_.names.contains(""); }

  result<> make_folder(const std::string &path) override {
    if (disk_.names.contains(path)) return {};
    if (const outcome o = disk_.decide("make", path); o != outcome::normal) return failed(o, path);
    if (!path.empty() && !disk_.names.contains(parent_of(path))) return fail(reason::StoreGone, "no {}", path);
    const uint64_t node = disk_.next++;
    disk_.nodes[node].folder = true;
    disk_.names[path] = node;
    enter(parent_of(path), {{path, node}}, true);
    return {};
  }
  result<> sync_folder(const std::string &path) override {
    const outcome o = disk_.decide("sync-folder", path);
    if (o == outcome::drop) return {};
    if (o != outcome::normal) return failed(o, path);
    operation s;
    s.what = operation::kind::sync_folder;
    s.folder = path;
    disk_.record(std::move(s));
    return {};
  }
  result<std::unique_ptr<out_file>> create(const std::string &asked) override {
    const outcome o = disk_.decide("create", asked);
    if (o == outcome::no_space || o == outcome::read_only) return failed(o, asked);
    // Dropping a file's rename means writing it under its name at once.
    const std::string path = o == outcome::drop ? asked.substr(0, asked.size() - suffix) : asked;
    if (o == outcome::drop && disk_.names.contains(path)) return fail(reason::PartExists, "{} is there", path);
    if (!disk_.names.contains(parent_of(path))) return fail(reason::StoreGone, "no {}", path);
    const uint64_t node = disk_.next++;
    disk_.nodes[node] = {};
    disk_.names[path] = node;
    enter(parent_of(path), {{path, node}}, false);
    return std::unique_ptr<out_file>(std::make_unique<memory_out>(disk_, path, node));
  }
  result<std::unique_ptr<in_file>> open(const std::string &path) override {
    const auto at = disk_.names.find(path);
    if (at == disk_.names.end() || disk_.nodes[at->second].folder) return std::unique_ptr<in_file>{};
    return std::unique_ptr<in_file>(std::make_unique<memory_in>(disk_.nodes[at->second].bytes, path));
  }
  result<bool> publish(const std::string &from, const std::string &to) override {
    const outcome o = disk_.decide("publish", to);
    if (o == outcome::drop) return true;  // create has done it
    if (o != outcome::normal) return failed(o, to);
    if (disk_.names.contains(to)) return false;
    const auto at = disk_.names.find(from);
    if (at == disk_.names.end()) return fail(reason::StoreGone, "no {}", from);
    const uint64_t node = at->second;
    disk_.names.erase(at);
    disk_.names[to] = node;
    enter(parent_of(to), {{from, 0}, {to, node}}, false);
    return true;
  }
  result<> remove(const std::string &path) override {
    if (!disk_.names.contains(path)) return {};
    disk_.names.erase(path);
    enter(parent_of(path), {{path, 0}}, false);
    return {};
  }
  result<> remove_folder(const std::string &path) override {
    const auto next = disk_.names.upper_bound(path + "/");
    if (!disk_.names.contains(path) || (next != disk_.names.end() && next->first.starts_with(path + "/"))) return {};
    return remove(path);
  }
  result<std::vector<store_entry>> list(const std::string &path) override {
    std::vector<store_entry> out;
    for (const auto &[name, node] : disk_.names)
      if (!name.empty() && parent_of(name) == path)
        out.push_back({path.empty() ? name : name.substr(path.size() + 1), disk_.nodes[node].folder});
    return out;
  }

 private:
  static constexpr std::size_t suffix = 1 + 36 + 4;  // ".UUID.tmp"
  void enter(std::string folder, std::vector<std::pair<std::string, uint64_t>> names, bool is_folder) {
    operation e;
    e.what = operation::kind::entry;
    e.folder = std::move(folder);
    e.names = std::move(names);
    e.is_folder = is_folder;
    disk_.record(std::move(e));
  }
  disk &disk_;
};

// The disk as a crash after `cut` operations may leave it: what was synced is there; of the rest, what `lives` says.
// An unsynced write may also be torn (`torn` answers how much of it is left).
inline disk after_crash(const std::vector<operation> &log, std::size_t cut,
                        const std::function<bool(std::size_t)> &lives,
                        const std::function<std::size_t(std::size_t, std::size_t)> &torn) {
  using kind = operation::kind;
  std::vector<bool> durable(cut, false);
  std::set<uint64_t> files;
  std::set<std::string> folders;
  for (std::size_t i = cut; i-- > 0;) {
    const operation &o = log[i];
    if (o.what == kind::sync_file) files.insert(o.node);
    else if (o.what == kind::sync_folder) folders.insert(o.folder);
    else if (o.what == kind::write) durable[i] = files.contains(o.node);
    else durable[i] = folders.contains(o.folder);
  }
  disk d;
  d.recording = false;
  std::map<std::string, uint64_t> names;
  for (std::size_t i = 0; i < cut; ++i) {
    const operation &o = log[i];
    if (o.what == kind::sync_file || o.what == kind::sync_folder) continue;
    const bool whole = durable[i] || lives(i);
    if (!whole && o.what == kind::entry) continue;
    if (o.what == kind::write) {
      const std::size_t n = whole ? o.bytes.size() : torn(i, o.bytes.size());
      std::string &to = d.nodes[o.node].bytes;
      if (n > 0 && to.size() < o.offset + n) to.resize(o.offset + n);
      std::copy_n(o.bytes.begin(), n, to.begin() + static_cast<std::ptrdiff_t>(n > 0 ? o.offset : 0));
      continue;
    }
    for (const auto &[name, node] : o.names) {
      if (node == 0) names.erase(name);
      else names[name] = node, d.nodes[node].folder = o.is_folder;
    }
  }
  // A name is reachable only through folders that are there.
  for (const auto &[name, node] : names)
    if (name.empty() || d.names.contains(parent_of(name))) d.names[name] = node;
  d.next = 1'000'000;
  return d;
}

}  // namespace thole::checkpoint::test
