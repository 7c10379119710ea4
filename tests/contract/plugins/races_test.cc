// The library is exchanged while it is being loaded, by a rename or by writing into it. Whatever wins, only bytes that
// the manifest names may run.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "host.h"

namespace {

TEST(Race, TheWrongBytesNeverRun) {
  constexpr int races = 1000;
  host::folder marks, f;
  const std::string mark = (marks / "mark").string();
  ::setenv("THOLE_SPECIMEN_MARK", mark.c_str(), 1);
  std::string right = host::specimen("right"), wrong = host::specimen("wrong");
  right.resize(std::max(right.size(), wrong.size()) + 16, '\0');
  wrong.resize(right.size(), '\0');

  int loaded = 0, refused = 0, kept = 0;
  for (int race = 0; race < races; ++race) {
    // A tail of its own each time, so that no copy that is mapped already answers.
    const std::string tail = std::to_string(race);
    std::copy(tail.begin(), tail.end(), right.end() - 16);
    host::manifest m;
    m.sha256 = host::sha256(right);
    const std::string library = (f / m.library).string(), aside = (f / "aside").string();
    host::write(f / "specimen.yaml", m.yaml());
    host::write(library, right);

    std::atomic<bool> go{false}, over{false};
    std::thread swapper([&] {
      const bool in_place = race % 2 != 0;
      while (!go) std::this_thread::yield();
      for (int i = 0; !over; ++i) {
        const std::string &bytes = i % 2 == 0 ? wrong : right;
        if (!in_place) {
          host::write(aside, bytes);
          ::rename(aside.c_str(), library.c_str());
        } else {
          const int fd = ::open(library.c_str(), O_WRONLY | O_CLOEXEC);
          const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), 0);
          (void)n;
          ::close(fd);
        }
      }
    });
    {
      host::core core;
      go = true;
      EXPECT_EQ(core.load(f.path()), THOLE_OK) << core.status.message;
      over = true;
      swapper.join();
      const auto seen = core.plugins();
      if (seen.size() == 1 && seen[0].reason.empty()) {
        ++loaded;
        const auto gpus = core.gpus("org.example.specimen", "");
        kept += gpus.size() == 1 && host::text(gpus[0].model) == "right";
      } else {
        ++refused;
        kept += seen.size() == 1 && seen[0].reason == "PluginDigestWrong";
        for (const auto &s : seen) EXPECT_EQ(s.reason, "PluginDigestWrong") << s.message;
      }
    }
  }
  ::unsetenv("THOLE_SPECIMEN_MARK");
  EXPECT_EQ(host::read(mark).find("wrong"), std::string::npos) << "the constructor of the wrong library has run";
  std::printf("the wrong bytes never ran: %d of %d (loaded %d, refused %d)\n", kept, races, loaded, refused);
  EXPECT_EQ(kept, races);
  EXPECT_GT(loaded, 0);  // both sides win some, or it is no race
  EXPECT_GT(refused, 0);
}

}  // namespace
