// An encrypted save and restore through the C ABI, beside a plain one of the same bytes: the same blocks through the
// same files of the same store, with the same syncs and renames, a copy in the place of the cipher (peer). The disk's
// own rate (limit) is that of the same blocks written out of one page-aligned place, without any work of the processor,
// and of direct reads. All in turn, round after round, so that what else the machine does meets each of them; ratios
// are the medians of the rounds' ratios. Reads find the cache dropped. The rates of cipher and copy alone go to stderr.
//
// usage: figure_checkpoint [--long]     1 GiB, with --long 4 GiB as well; in TMPDIR or /var/tmp
#include <fcntl.h>
#include <sys/stat.h>
#include <thole/checkpoint.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/crypto.h"
#include "checkpoint/store.h"

namespace {

using thole::checkpoint::octets;
using thole::checkpoint::octets_out;
using timer = std::chrono::steady_clock;
constexpr std::size_t block = std::size_t{1} << 20;  // a chunk of a part
constexpr std::size_t page = 4096;

void must(bool good, const char *what) {
  if (good) return;
  std::perror(what);
  std::exit(1);
}

template <class T>
T value_of(thole::result<T> r) {
  if (!r) std::exit((std::fprintf(stderr, "%s\n", std::string(r.error().text()).c_str()), 1));
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}

double gigabytes_a_second(std::size_t bytes, const std::function<void()> &work) {
  const auto from = timer::now();
  work();
  return static_cast<double>(bytes) / 1e9 / std::chrono::duration<double>(timer::now() - from).count();
}

void drop_cache(const std::string &folder) {
  for (const auto &e : std::filesystem::recursive_directory_iterator(folder)) {
    if (!e.is_regular_file()) continue;
    const int fd = ::open(e.path().c_str(), O_RDONLY | O_CLOEXEC);
    must(fd >= 0, "open");
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<double> ratios(const std::vector<double> &a, const std::vector<double> &b) {
  std::vector<double> out;
  for (std::size_t i = 0; i < a.size(); ++i) out.push_back(a[i] / b[i]);
  return out;
}

// A part's way to the disk without what makes it ours: a header page, blocks, fsync, rename, fsync of the folder.
class plain_store {
 public:
  explicit plain_store(std::string folder)
      : folder_(std::move(folder)), files_(thole::checkpoint::posix_store(folder_)) {
    value_of(files_->make_folder(""));
  }
  // With `copied` false every block is what stands in it already.
  void write(const std::vector<unsigned char> &data, bool copied) {
    value_of(files_->remove("plain"));
    auto file = value_of(files_->create("plain.tmp"));
    const std::vector<unsigned char> head(page);
    value_of(file->write_at(0, head));
    for (std::size_t at = 0; at < data.size(); at += block) {
      const octets_out to = value_of(file->block(block));
      if (copied) std::memcpy(to.data(), data.data() + at, block);
      value_of(file->write_block(page + at, block));
    }
    value_of(file->sync());
    must(value_of(files_->publish("plain.tmp", "plain")), "rename");
    value_of(files_->sync_folder(""));
  }
  void read(std::vector<unsigned char> &to) {
    auto file = value_of(files_->open("plain"));
    for (std::size_t at = 0; at < to.size(); at += block)
      std::memcpy(to.data() + at, value_of(file->block_at(page + at, block, page + to.size())).data(), block);
  }
  // Direct reads of 4 MiB, one after the other; 0 where the file system has none.
  double read_limit(std::size_t size) {
    constexpr std::size_t piece = 4 * block;
    const int fd = ::open((folder_ + "/plain").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0) return 0;
    void *aligned = std::aligned_alloc(page, piece);
    must(aligned != nullptr, "memory");
    const double rate = gigabytes_a_second(size, [&] {
      for (std::size_t at = 0; at < size; at += piece)
        must(::pread(fd, aligned, piece, static_cast<off_t>(at)) == static_cast<ssize_t>(piece), "direct read");
    });
    ::close(fd);
    std::free(aligned);
    return rate;
  }

 private:
  std::string folder_;
  std::unique_ptr<thole::checkpoint::store> files_;
};

class encrypted_store {
 public:
  explicit encrypted_store(const std::string &folder) : store_path_(folder + "/store"), key_path_(folder + "/key") {
    core_options_.struct_size = sizeof core_options_;
    check(thole_->core->open(&core_options_, &core_, &status_));
    check(thole_->core->key_new(core_, text(key_path_), &status_));
    key_.struct_size = sizeof key_;
    key_.kind = THOLE_KEY_FILE;
    key_.path = text(key_path_);
    store_.struct_size = sizeof store_;
    store_.folder = text(store_path_);
    store_.run = {1, 2};
    store_.key = &key_;
  }
  ~encrypted_store() { thole_->core->close(core_, nullptr); }
  encrypted_store(const encrypted_store &) = delete;
  encrypted_store &operator=(const encrypted_store &) = delete;

  void save(uint64_t step, const std::vector<unsigned char> &data) {
    thole_save save{sizeof save, 1, step, 0, 1};
    thole_writer w{};
    check(thole_->checkpoint->begin(core_, &store_, &save, &w, &status_));
    const uint64_t shape = data.size();
    thole_item item{};
    item.struct_size = sizeof item;
    item.name = THOLE_STR("weights");
    item.kind = THOLE_ITEM_TENSOR;
    item.dims = 1;
    item.dtype = THOLE_STR("uint8");
    item.shape = &shape;
    item.data = {data.data(), data.size()};
    check(thole_->checkpoint->put(w, &item, &status_));
    check(thole_->checkpoint->seal(w, nullptr, &status_));
    check(thole_->checkpoint->end(w, &status_));
  }
  void restore(std::vector<unsigned char> &to) {
    thole_reader r{};
    check(thole_->checkpoint->open(core_, &store_, nullptr, &r, &status_));
    thole_box box{};
    box.struct_size = sizeof box;
    box.name = THOLE_STR("weights");
    box.to = to.data();
    box.size = to.size();
    check(thole_->checkpoint->get(r, &box, &status_));
    check(thole_->checkpoint->close(r, &status_));
  }
  void keep_newest() { check(thole_->checkpoint->retire(core_, &store_, 1, nullptr, &status_)); }

 private:
  static thole_str text(const std::string &s) { return {s.data(), s.size()}; }
  void check(thole_code code) {
    if (code == THOLE_OK) return;
    std::fprintf(stderr, "%s: %s\n", status_.reason, status_.message);
    std::exit(1);
  }
  const thole_root *thole_ = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr);
  std::string store_path_, key_path_;
  thole_status status_{sizeof(thole_status), 0, 0, 0, 0, {}, {}};
  thole_core_options core_options_{};
  thole_core core_{};
  thole_key key_{};
  thole_store store_{};
};

// What the processor alone can do with the same blocks, out of memory into a block that stays in its cache.
void print_processor(const std::vector<unsigned char> &data) {
  const std::vector<unsigned char> key(32, 7);
  auto cipher = value_of(thole::checkpoint::gcm::make(thole::checkpoint::gcm::direction::seal, key));
  std::vector<unsigned char> to(block);
  const double sealed = gigabytes_a_second(data.size(), [&] {
    for (std::size_t at = 0; at < data.size(); at += block) {
      unsigned char tag[16];
      value_of(cipher.begin({}, {}));
      value_of(cipher.update(data.data() + at, to.data(), block));
      value_of(cipher.seal(tag));
    }
  });
  const double copied = gigabytes_a_second(data.size(), [&] {
    for (std::size_t at = 0; at < data.size(); at += block) {
      std::memcpy(to.data(), data.data() + at, block);
      __asm__ volatile("" ::"r"(to.data()) : "memory");
    }
  });
  std::fprintf(stderr, "one core: AES-256-GCM %.2f GB/s, copy %.2f GB/s\n", sealed, copied);
}

struct rates {
  std::vector<double> ours, peer, limit;
  void print(const char *id, std::size_t gib) const {
    std::printf(
        "{\"id\":\"checkpoint.%s.%zuGiB\",\"ours\":%.2f,\"unit\":\"GB/s\",\"peer\":%.2f,\"limit\":%.2f,\"ratio\":%.2f,"
        "\"goal\":\"ratio >= 0.9\"}\n",
        id, gib, middle(ours), middle(peer), middle(limit), middle(ratios(ours, peer)));
    std::fflush(stdout);
  }
};

void measure(const std::string &folder, std::size_t gib) {
  const std::size_t size = gib << 30;
  std::vector<unsigned char> data(size);
  for (std::size_t i = 0; i < size; i += 8) {
    const uint64_t v = i * 0x9E3779B97F4A7C15u;
    std::memcpy(data.data() + i, &v, 8);
  }
  std::vector<unsigned char> back(size);
  print_processor(data);
  plain_store plain(folder + "/plain");
  encrypted_store ours(folder);
  rates save, restore;
  const uint64_t rounds = gib == 1 ? 9 : 3;
  for (uint64_t step = 1; step <= rounds; ++step) {
    save.limit.push_back(gigabytes_a_second(size, [&] { plain.write(data, false); }));
    save.peer.push_back(gigabytes_a_second(size, [&] { plain.write(data, true); }));
    save.ours.push_back(gigabytes_a_second(size, [&] { ours.save(step, data); }));
    ours.keep_newest();
    drop_cache(folder);
    restore.limit.push_back(plain.read_limit(size));
    drop_cache(folder);
    restore.peer.push_back(gigabytes_a_second(size, [&] { plain.read(back); }));
    if (back != data) std::exit((std::fprintf(stderr, "what was read differs\n"), 1));
    std::fill(back.begin(), back.end(), static_cast<unsigned char>(0));
    restore.ours.push_back(gigabytes_a_second(size, [&] { ours.restore(back); }));
    if (back != data) std::exit((std::fprintf(stderr, "what was restored differs\n"), 1));
    std::fprintf(stderr, "round %d of %d: save %.2f plain %.2f disk %.2f, restore %.2f plain %.2f disk %.2f GB/s\n",
                 static_cast<int>(step), static_cast<int>(rounds), save.ours.back(), save.peer.back(),
                 save.limit.back(), restore.ours.back(), restore.peer.back(), restore.limit.back());
  }
  save.print("save", gib);
  restore.print("restore", gib);
}

}  // namespace

int main(int argc, char **argv) {
  const bool longer = argc > 1 && std::strcmp(argv[1], "--long") == 0;
  for (const std::size_t gib : {std::size_t{1}, std::size_t{4}}) {
    if (gib > 1 && !longer) break;
    const char *where = std::getenv("TMPDIR");
    std::string name = std::string(where == nullptr ? "/var/tmp" : where) + "/thole-figure-XXXXXX";
    must(mkdtemp(name.data()) != nullptr, "mkdtemp");
    measure(name, gib);
    std::filesystem::remove_all(name);
  }
  return 0;
}
