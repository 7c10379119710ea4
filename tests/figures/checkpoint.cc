// An encrypted save and restore through the C ABI, beside a plain write and read of the same bytes with the same fsync
// discipline (peer), and O_DIRECT at the disk's sequential rate (limit), in one run. Reads find the cache dropped.
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

namespace {

using timer = std::chrono::steady_clock;
constexpr std::size_t piece = std::size_t{4} << 20;

void must(bool good, const char *what) {
  if (good) return;
  std::perror(what);
  std::exit(1);
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

// The same order as a part's: temporary, write, fsync, rename, fsync of the folder.
void plain_write(const std::string &folder, const std::vector<unsigned char> &data) {
  const std::string temporary = folder + "/plain.tmp";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  must(fd >= 0, "open");
  constexpr std::size_t step = std::size_t{1} << 20;
  std::size_t started = 0;
  for (std::size_t at = 0; at < data.size(); at += step) {
    must(::pwrite(fd, data.data() + at, step, static_cast<off_t>(at)) == static_cast<ssize_t>(step), "pwrite");
    if (at + step - started >= (std::size_t{8} << 20)) {
      ::sync_file_range(fd, static_cast<off_t>(started), static_cast<off_t>(at + step - started),
                        SYNC_FILE_RANGE_WRITE);
      started = at + step;
    }
  }
  must(::fsync(fd) == 0, "fsync");
  ::close(fd);
  must(::rename(temporary.c_str(), (folder + "/plain").c_str()) == 0, "rename");
  const int dir = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  must(::fsync(dir) == 0, "fsync of the folder");
  ::close(dir);
}

void plain_read(const std::string &folder, std::vector<unsigned char> &to) {
  const int fd = ::open((folder + "/plain").c_str(), O_RDONLY | O_CLOEXEC);
  must(fd >= 0, "open");
  constexpr std::size_t step = std::size_t{1} << 20;
  for (std::size_t at = 0; at < to.size(); at += step)
    must(::pread(fd, to.data() + at, step, static_cast<off_t>(at)) == static_cast<ssize_t>(step), "pread");
  ::close(fd);
}

double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void line(const char *id, std::size_t gib, double ours, double peer, double limit) {
  std::printf(
      "{\"id\":\"checkpoint.%s.%zuGiB\",\"ours\":%.2f,\"unit\":\"GB/s\",\"peer\":%.2f,\"limit\":%.2f,\"ratio\":%.2f,"
      "\"goal\":0.9}\n",
      id, gib, ours, peer, limit, ours / peer);
  std::fflush(stdout);
}

class session {
 public:
  explicit session(const std::string &folder)
      : folder_(folder), store_path_(folder + "/store"), key_path_(folder + "/key") {
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
  ~session() { thole_->core->close(core_, nullptr); }
  session(const session &) = delete;
  session &operator=(const session &) = delete;

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
  std::string folder_, store_path_, key_path_;
  thole_status status_{sizeof(thole_status), 0, 0, 0, 0, {}, {}};
  thole_core_options core_options_{};
  thole_core core_{};
  thole_key key_{};
  thole_store store_{};
};

void measure(const std::string &folder, std::size_t gib) {
  const std::size_t size = gib << 30;
  std::vector<unsigned char> data(size);
  for (std::size_t i = 0; i < size; i += 8) {
    const uint64_t v = i * 0x9E3779B97F4A7C15u;
    std::memcpy(data.data() + i, &v, 8);
  }
  std::vector<unsigned char> back(size);
  session s(folder);
  std::vector<double> save, write, restore, read;
  const int rounds = gib == 1 ? 5 : 3;
  for (int i = 0; i < rounds; ++i) {
    write.push_back(gigabytes_a_second(size, [&] { plain_write(folder, data); }));
    save.push_back(gigabytes_a_second(size, [&] { s.save(static_cast<uint64_t>(i) + 1, data); }));
    s.keep_newest();
    drop_cache(folder);
    read.push_back(gigabytes_a_second(size, [&] { plain_read(folder, back); }));
    drop_cache(folder);
    std::fill(back.begin(), back.end(), static_cast<unsigned char>(0));
    restore.push_back(gigabytes_a_second(size, [&] { s.restore(back); }));
    if (back != data) std::exit((std::fprintf(stderr, "what was restored differs\n"), 1));
  }
  double rate_write = 0;
  double rate_read = 0;
  void *aligned = std::aligned_alloc(4096, piece);
  if (aligned != nullptr) {
    const std::string path = folder + "/direct";
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (fd >= 0) {  // not every file system has it
      std::memset(aligned, 1, piece);
      const auto all = [&](auto &&f) {
        for (std::size_t at = 0; at < size; at += piece) must(f(at) == static_cast<ssize_t>(piece), "direct I/O");
      };
      rate_write = gigabytes_a_second(size, [&] {
        all([&](std::size_t at) { return ::pwrite(fd, aligned, piece, static_cast<off_t>(at)); });
        must(::fsync(fd) == 0, "fsync");
      });
      rate_read = gigabytes_a_second(
          size, [&] { all([&](std::size_t at) { return ::pread(fd, aligned, piece, static_cast<off_t>(at)); }); });
      ::close(fd);
    }
    std::free(aligned);
  }
  line("save", gib, middle(save), middle(write), rate_write);
  line("restore", gib, middle(restore), middle(read), rate_read);
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
