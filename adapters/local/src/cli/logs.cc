// thole logs.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/text.h"
#include "cli/options.h"

namespace thole::local {
namespace {

struct logs_arguments {
  std::string name;
  bool follow = false;
  int64_t rank = -1;
  uint64_t attempt = 0;
};

// One file being read, line by line, also across its rotation.
class tail {
 public:
  explicit tail(std::string prefix) : prefix_(std::move(prefix)) {}

  void read(const std::string &path) {
    struct stat now {};
    if (fd_ && ::stat(path.c_str(), &now) == 0 && (now.st_ino != inode_)) {
      drain();  // what was written before it was renamed
      fd_.reset();
    }
    if (!fd_) {
      fd_ = unique_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd_ || ::fstat(fd_.get(), &now) != 0) return;
      inode_ = now.st_ino;
    }
    drain();
  }
  void finish() {
    if (!partial_.empty()) print(prefix_ + utf8_or_replaced(partial_) + "\n");
    partial_.clear();
  }

 private:
  void drain() {
    char piece[65536];
    for (ssize_t n = ::read(fd_.get(), piece, sizeof piece); n > 0; n = ::read(fd_.get(), piece, sizeof piece)) {
      partial_.append(piece, static_cast<std::size_t>(n));
      std::size_t begin = 0;
      for (std::size_t end = partial_.find('\n'); end != std::string::npos; end = partial_.find('\n', begin)) {
        print(prefix_ + utf8_or_replaced(std::string_view(partial_).substr(begin, end - begin)) + "\n");
        begin = end + 1;
      }
      partial_.erase(0, begin);
    }
  }
  std::string prefix_;
  std::string partial_;
  unique_fd fd_;
  ino_t inode_ = 0;
};

uint64_t newest_attempt(const std::string &folder) {
  uint64_t newest = 0;
  std::error_code bad;
  for (const auto &entry : std::filesystem::directory_iterator(folder, bad))
    newest = std::max(newest, parse_u64(entry.path().filename().string()).value_or(0));
  return newest;
}

std::vector<uint64_t> ranks_with_logs(const std::string &folder) {
  std::vector<uint64_t> ranks;
  std::error_code bad;
  for (const auto &entry : std::filesystem::directory_iterator(folder, bad)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("rank-", 0) != 0 || entry.path().extension() != ".log") continue;
    if (const auto rank = parse_u64(std::string_view(name).substr(5, name.size() - 9))) ranks.push_back(*rank);
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

class log_reader {
 public:
  log_reader(const layout &l, logs_arguments a) : layout_(l), a_(std::move(a)) {}

  // All that there is by now, of the attempt that was asked for or of the newest.
  void read() {
    const uint64_t attempt = a_.attempt != 0 ? a_.attempt : newest_attempt(layout_.job(a_.name) + "/attempts");
    if (attempt != attempt_) {
      for (auto &[rank, t] : tails_) t.finish();
      tails_.clear();
      if (attempt_ != 0) print(fmt::format("-- attempt {}\n", attempt));
      attempt_ = attempt;
    }
    const std::string folder = layout_.attempt(a_.name, attempt_);
    for (const uint64_t rank : ranks_with_logs(folder)) {
      if (a_.rank >= 0 && rank != static_cast<uint64_t>(a_.rank)) continue;
      const auto at = tails_.try_emplace(rank, a_.rank >= 0 ? std::string() : fmt::format("{}| ", rank)).first;
      at->second.read(fmt::format("{}/rank-{}.log", folder, rank));
    }
  }
  void finish() {
    for (auto &[rank, t] : tails_) t.finish();
  }
  bool any() const { return !tails_.empty(); }
  std::string folder() const { return layout_.attempt(a_.name, attempt_); }

 private:
  const layout &layout_;
  logs_arguments a_;
  uint64_t attempt_ = 0;
  std::map<uint64_t, tail> tails_;
};

result<int> logs(const common_options &common, const logs_arguments &a) {
  THOLE_LET(const layout l, layout::open(common.state));
  THOLE_TRY(load(l, a.name));
  log_reader reader(l, a);
  const unique_fd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  for (;;) {
    // Looked at before the read: what is written until a controller ends is read after it was seen to live.
    const bool running = job_is_running(l, a.name);
    if (changes) {
      ::inotify_add_watch(changes.get(), (l.job(a.name) + "/attempts").c_str(), IN_CREATE);
      ::inotify_add_watch(changes.get(), reader.folder().c_str(), IN_CREATE | IN_MODIFY | IN_MOVED_TO);
    }
    reader.read();
    std::fflush(stdout);
    if (!a.follow || !running) break;
    pollfd wait{changes.get(), POLLIN, 0};
    ::poll(&wait, 1, 250);
    char ignored[4096];
    while (::read(changes.get(), ignored, sizeof ignored) > 0) {
    }
  }
  reader.finish();
  if (!reader.any() && a.rank >= 0)
    return fail(reason::JobUnknown, "job {} has no log of rank {}: a launcher's ranks share that of its first", a.name,
                a.rank);
  return exit_ok;
}

}  // namespace

void add_logs(CLI::App &app, const common_options &, command *chosen) {
  const auto a = std::make_shared<logs_arguments>();
  CLI::App *c = app.add_subcommand("logs", "Prints what the ranks of a job have written");
  c->add_option("name", a->name, "A job's name")->required();
  c->add_flag("-f,--follow", a->follow, "Go on until the job ends");
  c->add_option("--rank", a->rank, "Only this rank [all, each line with its rank]")->check(CLI::NonNegativeNumber);
  c->add_option("--attempt", a->attempt, "Of this attempt [the newest]");
  c->footer("Examples:\n  thole logs digits\n  thole logs -f --rank 0 digits\n  thole logs --attempt 1 digits");
  c->callback([=] { *chosen = [=](const common_options &common) { return logs(common, *a); }; });
}

}  // namespace thole::local
