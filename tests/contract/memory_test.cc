// Rules A4 and A7 when memory is out: malloc fails at every single allocation of every slot, once and from there on.
// The answer is OutOfMemory or, where it could be done all the same, THOLE_OK; nothing is thrown out, and the core
// still works. Also: what a call that succeeds allocates, and that the ledger asks no clock.
#include <errno.h>
#include <sys/time.h>
#include <time.h>

#include <atomic>

#include "slots.h"

namespace {

// -1: never fail. Otherwise the allocation of this number fails, and with `for_good` all that follow.
std::atomic<long> countdown{-1};
std::atomic<bool> for_good{false}, counting{false};
std::atomic<long> allocations{0}, clocks{0};

bool fails() {
  if (counting) ++allocations;
  if (countdown < 0) return false;
  const long left = countdown--;
  if (left > 0) return false;
  if (for_good) countdown = 0;
  return true;
}

}  // namespace

// These are found before the C library's own, by the library under test too: for that they have to be visible, however
// the rest of this program is compiled.
#pragma GCC visibility push(default)
extern "C" {
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
  if (!fails()) return __libc_malloc(size);
  errno = ENOMEM;
  return nullptr;
}
void *calloc(size_t count, size_t size) {
  if (!fails()) return __libc_calloc(count, size);
  errno = ENOMEM;
  return nullptr;
}
void *realloc(void *old, size_t size) {
  if (!fails()) return __libc_realloc(old, size);
  errno = ENOMEM;
  return nullptr;
}
void *aligned_alloc(size_t alignment, size_t size) {
  if (!fails()) return __libc_memalign(alignment, size);
  errno = ENOMEM;
  return nullptr;
}
int posix_memalign(void **to, size_t alignment, size_t size) {
  if (fails()) return ENOMEM;
  *to = __libc_memalign(alignment, size);
  return *to == nullptr ? ENOMEM : 0;
}

int clock_gettime(clockid_t clock, struct timespec *to) {
  static auto *const real = reinterpret_cast<int (*)(clockid_t, struct timespec *)>(dlsym(RTLD_NEXT, "clock_gettime"));
  if (counting) ++clocks;
  return real(clock, to);
}
int gettimeofday(struct timeval *__restrict to, void *__restrict zone) {
  static auto *const real = reinterpret_cast<int (*)(struct timeval *, void *)>(dlsym(RTLD_NEXT, "gettimeofday"));
  if (counting) ++clocks;
  return real(to, zone);
}
time_t time(time_t *to) {
  struct timespec now {};
  clock_gettime(CLOCK_REALTIME, &now);
  if (to != nullptr) *to = now.tv_sec;
  return now.tv_sec;
}
}
#pragma GCC visibility pop

using namespace host;

namespace {

struct outcome {
  long points = 0, told = 0, done_all_the_same = 0;
};

// Fails the first, second, third, ... allocation of `run` until it needs none that fails.
template <class F>
outcome starve(const std::string &name, bool permanently, bool only_memory, F run, long stride = 1) {
  outcome o;
  for (long n = 0; n < 200000; n += stride) {
    thole_status status = sized<thole_status>();
    for_good = permanently;
    countdown = n;
    const thole_code code = run(&status);
    const bool reached = countdown < 0 || (permanently && countdown == 0);
    countdown = -1;
    if (!reached) return o;
    ++o.points;
    if (code == THOLE_OK) {
      ++o.done_all_the_same;
    } else {
      ++o.told;
      // What the system refused for want of memory may keep its own reason, with the errno that says so.
      if (only_memory && status.os_errno != ENOMEM) {
        EXPECT_STREQ(status.reason, "OutOfMemory") << name << ", allocation " << n << ": " << status.message;
      }
    }
  }
  ADD_FAILURE() << name << " never came to an end";
  return o;
}

class memory : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    w.open();
    w.make_key();
  }
  world w;
};

TEST_P(memory, is_out_at_every_allocation_of_core_and_gang) {
  outcome all;
  for (auto group : {core_slots, gang_slots}) {
    for (const auto &one : group(w)) {
      if (one.name == "core.close" || one.name == "core.key_new") continue;
      thole_status status = sized<thole_status>();
      const thole_code usual = one.call({w.core, {}, {}}, &status);
      if (one.name == "gang.reserve") root()->gang->release(w.core, w.request.gang, nullptr);
      const outcome o = starve(one.name, GetParam(), usual == THOLE_OK, [&](thole_status *s) {
        const thole_code code = one.call({w.core, {}, {}}, s);
        if (one.name == "gang.reserve") {
          const long kept = countdown.exchange(-1);
          root()->gang->release(w.core, w.request.gang, nullptr);
          countdown = kept;
        }
        return code;
      });
      all.points += o.points;
      all.told += o.told;
      const thole_code again = one.call({w.core, {}, {}}, &status);
      EXPECT_EQ(again, usual) << one.name << " works again: " << status.message;
      root()->gang->release(w.core, w.request.gang, nullptr);
    }
  }
  printf("%ld of %ld points: the core works on; %ld of them told\n", all.points, all.points, all.told);
  EXPECT_GT(all.told, 50);
}

TEST_P(memory, is_out_at_every_allocation_of_the_drafts) {
  long points = 0;
  for (const auto &one : draft_slots(w)) {
    // Job files are held in a JSON library whose destructors allocate, and end the process if they cannot: see
    // docs/rules/abi.md.
    if (one.name.rfind("job.", 0) == 0) continue;
    const thole_code usual = one.call({w.core, {}, {}}, nullptr);
    points += starve(one.name, GetParam(), usual == THOLE_OK, [&](thole_status *s) {
                return one.call({w.core, {}, {}}, s);
              }).points;
    thole_status status = sized<thole_status>();
    EXPECT_EQ(one.call({w.core, {}, {}}, &status), usual) << one.name << " works again: " << status.message;
  }
  printf("%ld points\n", points);
}

TEST_P(memory, is_out_at_every_allocation_of_a_checkpoint) {
  const auto *t = root()->checkpoint;
  uint64_t step = 0;
  auto save_and_read = [&](thole_status *s) -> thole_code {
    auto save = sized<thole_save>();
    save.attempt = 1;
    save.parts = 1;
    save.step = ++step;
    // A run of its own for each try: what failed tries leave behind would be listed by the next ones, for ever more.
    auto store = w.store;
    store.run = {2, step};
    const one_tensor tensor;
    thole_writer writer{};
    thole_code code = t->begin(w.core, &store, &save, &writer, s);
    if (code == THOLE_OK) code = t->put(writer, &tensor.item, s);
    if (code == THOLE_OK) code = t->seal(writer, nullptr, s);
    if (writer.v != 0) t->end(writer, nullptr);
    if (code != THOLE_OK) return code;
    thole_reader reader{};
    code = t->open(w.core, &store, nullptr, &reader, s);
    float to[4] = {};
    if (code == THOLE_OK) {
      auto box = sized<thole_box>();
      box.name = THOLE_STR("weights");
      box.to = to;
      box.size = sizeof to;
      code = t->get(reader, &box, s);
      if (code == THOLE_OK && std::memcmp(to, tensor.numbers, sizeof to) != 0) code = THOLE_DATA_LOSS;
      // What failed has left zeros, not half of it.
      if (code != THOLE_OK) {
        for (const float x : to) EXPECT_EQ(x, 0);
      }
    }
    if (reader.v != 0) t->close(reader, nullptr);
    if (code == THOLE_OK) code = t->retire(w.core, &store, 1, nullptr, s);
    return code;
  };
  allocations = 0;
  counting = true;
  ASSERT_EQ(save_and_read(nullptr), THOLE_OK);
  counting = false;
  // Each try writes and syncs files: by default some of the points, evenly; all of them with THOLE_TEST_LONG.
  const long stride = getenv("THOLE_TEST_LONG") != nullptr ? 1 : std::max(1L, allocations.load() / 60);
  // libcrypto answers an allocation that failed with an error of its own, so the reason may be another one.
  const outcome o = starve("save and read", GetParam(), false, save_and_read, stride);
  printf("%ld of %ld points, %ld of them told\n", o.points, allocations.load(), o.told);
  thole_status status = sized<thole_status>();
  EXPECT_EQ(save_and_read(&status), THOLE_OK) << status.message;
}

INSTANTIATE_TEST_SUITE_P(once_and_for_good, memory, testing::Bool(),
                         [](const auto &info) { return info.param ? "for_good" : "once"; });

TEST(allocations, of_a_call_that_only_checks_are_none) {
  world w;
  w.open();
  // What every call goes through: handle, fork, sizes. An answer that needs no memory allocates none.
  allocations = 0;
  counting = true;
  for (int i = 0; i < 100; ++i) {
    root()->gang->cancel(w.core, w.request.gang, nullptr);
    root()->gang->release(w.core, w.request.gang, nullptr);
  }
  counting = false;
  printf("%ld allocations in 200 calls\n", allocations.load());
  EXPECT_EQ(allocations, 0);
}

TEST(clock, is_never_asked_by_the_ledger) {
  world w;
  w.open();
  for (const auto &one : gang_slots(w)) {
    clocks = 0;
    counting = true;
    one.call({w.core, {}, {}}, nullptr);
    counting = false;
    EXPECT_EQ(clocks, 0) << one.name;
  }
}

}  // namespace
