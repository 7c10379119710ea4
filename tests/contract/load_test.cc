// Rules A7, A8 and A11: loading runs nothing of ours, opening starts nothing, calls change nothing in the process and
// print nothing, and code once loaded stays where it is.
#include <link.h>
#include <sys/wait.h>

#include "process.h"
#include "slots.h"

using namespace host;

namespace {

// The other tests of this program load the library too: what happens at load is seen in a child that has not yet.
template <class F>
int in_fresh_process(F f) {
  const pid_t child = fork();
  if (child == 0) _exit(f());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

bool is_loaded(const std::string &part) {
  struct search {
    const std::string &part;
    int count;
  } s{part, 0};
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        auto *found = static_cast<search *>(data);
        found->count += info->dlpi_name != nullptr && strstr(info->dlpi_name, found->part.c_str()) != nullptr;
        return 0;
      },
      &s);
  if (s.count > 1) fprintf(stderr, "%s is mapped %d times\n", part.c_str(), s.count);
  return s.count == 1;
}

TEST(load, changes_nothing_in_the_process) {
  const int wrong = in_fresh_process([] {
    if (is_loaded("libthole")) return 100;
    // What the C library itself does at a first dlopen and stdio call is not ours.
    dlopen("libcrypto.so.3", RTLD_NOW);
    const std::string before = state_of_process();
    if (dlopen(library(), RTLD_NOW | RTLD_LOCAL) == nullptr) return 101;
    const std::string found = changes(before, state_of_process());
    fputs(found.c_str(), stderr);
    return found.empty() ? 0 : 1;
  });
  EXPECT_EQ(wrong, 0);
}

TEST(load, keeps_one_copy_through_close_and_load) {
  const int wrong = in_fresh_process([] {
    void *first = dlopen(library(), RTLD_NOW | RTLD_LOCAL);
    void *entry = dlsym(first, THOLE_ENTRY_SYMBOL);
    for (int i = 0; i < 4; ++i) dlclose(first);
    if (!is_loaded("libthole")) return 1;
    // It can still be called: nothing was unmapped.
    if (reinterpret_cast<thole_entry_v1_fn>(entry)(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr) == nullptr) return 2;
    void *second = dlopen(library(), RTLD_NOW | RTLD_GLOBAL);
    return dlsym(second, THOLE_ENTRY_SYMBOL) == entry ? 0 : 3;
  });
  EXPECT_EQ(wrong, 0);
}

TEST(load, open_starts_no_thread) {
  const std::size_t before = threads_of_process();
  world w;
  w.open();
  EXPECT_EQ(threads_of_process(), before);
  for (const auto &one : every_slot(w)) {
    if (one.name == "core.close") continue;
    one.call({w.core, {}, {}}, nullptr);
    EXPECT_EQ(threads_of_process(), before) << one.name;
  }
}

TEST(load, calls_change_nothing_in_the_process) {
  world w;
  w.open();
  w.make_key();
  dlopen("libcrypto.so.3", RTLD_NOW);
  int tried = 0;
  for (const auto &one : every_slot(w)) {
    if (one.name == "core.close") continue;
    one.call({w.core, {}, {}},
             nullptr);  // a first call may open what lives as long as the core, such as an entropy source
    const std::string before = state_of_process();
    one.call({w.core, {}, {}}, nullptr);
    EXPECT_EQ(changes(before, state_of_process()), "") << one.name;
    ++tried;
  }
  printf("%d slots\n", tried);
}

TEST(load, everything_that_was_opened_is_closed) {
  const std::string before = state_of_process();
  {
    folder place;
    const std::string state = place.path + "/state", metrics = place.path + "/metrics";
    auto options = sized<thole_core_options>();
    options.state = str(state);
    options.metrics = str(metrics);
    thole_status status = sized<thole_status>();
    thole_core core{};
    ASSERT_EQ(root()->core->open(&options, &core, &status), THOLE_OK) << status.message;
    struct stat s {};
    ASSERT_EQ(stat(state.c_str(), &s), 0);
    EXPECT_EQ(s.st_mode & 0777, 0700u);
    ASSERT_EQ(root()->core->close(core, &status), THOLE_OK) << status.message;
  }
  EXPECT_EQ(changes(before, state_of_process()), "");
}

TEST(load, nothing_is_printed) {
  folder place;
  const std::string out = place.path + "/printed";
  fflush(nullptr);
  const int kept_out = dup(1), kept_err = dup(2);
  ASSERT_NE(freopen(out.c_str(), "w", stdout), nullptr);
  dup2(1, 2);
  {
    world w;
    root()->core->open(nullptr, &w.core, nullptr);
    for (const auto &one : every_slot(w)) one.call({one.name == "core.close" ? thole_core{} : w.core, {}, {}}, nullptr);
    for (const auto &one : every_slot(w)) one.call({}, nullptr);
  }
  fflush(nullptr);
  dup2(kept_out, 1);
  dup2(kept_err, 2);
  EXPECT_EQ(std::filesystem::file_size(out), 0u);
}

TEST(load, the_log_goes_to_the_host) {
  struct words {
    int count = 0;
  } seen;
  auto log = sized<thole_host_log>();
  log.self = &seen;
  log.level = THOLE_LOG_DEBUG;
  log.write = [](void *self, thole_log_level level, thole_str component, thole_str message) {
    EXPECT_GE(level, THOLE_LOG_DEBUG);
    EXPECT_GT(component.len, 0u);
    EXPECT_GT(message.len, 0u);
    ++static_cast<words *>(self)->count;
  };
  auto options = sized<thole_core_options>();
  options.log = &log;
  thole_core core{};
  ASSERT_EQ(root()->core->open(&options, &core, nullptr), THOLE_OK);
  root()->core->close(core, nullptr);
  printf("%d lines\n", seen.count);
}

}  // namespace
