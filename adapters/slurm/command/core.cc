#include "core.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdio>

namespace thole::slurm {

result<std::unique_ptr<core>> core::open() {
  auto status = sized<thole_status>();
  std::unique_ptr<core> c(new core);
  c->root_ = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, &status);
  if (c->root_ == nullptr) return tl::unexpected(make_problem(status, status.code));
  if (c->root_->job == nullptr || c->root_->recovery == nullptr || c->root_->checkpoint == nullptr)
    return fail(reason::ServiceMissing, "this build of libthole lacks a service that thole-slurm uses");
  THOLE_TRY(call([&](thole_status *s) { return c->root_->core->open(nullptr, &c->handle_, s); }));
  return c;
}

core::~core() {
  if (handle_.v != 0) root_->core->close(handle_, nullptr);
}

std::string core::version() {
  const thole_root *root = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr);
  return root == nullptr ? std::string() : own(root->version);
}

namespace {

thole_id parse_run(const std::string &text) {
  uint64_t half[2] = {0, 0};
  int digits = 0;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0 || digits >= 32) continue;
    uint64_t &h = half[digits++ / 16];
    h = h << 4 | static_cast<uint64_t>(digit);
  }
  return {half[0], half[1]};
}

template <class F>
result<> with_store(const run_store &s, F &&f) {
  auto key = sized<thole_key>();
  key.kind = THOLE_KEY_FILE;
  key.path = borrow(s.key);
  auto store = sized<thole_store>();
  store.folder = borrow(s.folder);
  store.run = parse_run(s.run);
  store.key = &key;
  return f(store);
}

}  // namespace

result<uint64_t> newest_step(const core &c, const run_store &s) {
  uint64_t newest = 0;
  THOLE_TRY(with_store(s, [&](const thole_store &store) -> result<> {
    std::vector<uint64_t> room;
    auto list = sized<thole_checkpoint_list>();
    THOLE_TRY(call_with_room(room, [&](thole_buffer *b, thole_status *status) {
      return c.root().checkpoint->list(c.handle(), &store, &list, b, status);
    }));
    for (uint64_t i = 0; i < list.checkpoints.count; ++i) {
      const auto *info = THOLE_AT(list.checkpoints, thole_checkpoint_info, i);
      if (info->state == THOLE_CHECKPOINT_COMMITTED) newest = std::max(newest, info->step);
    }
    return {};
  }));
  return newest;
}

result<> retire(const core &c, const run_store &s, uint32_t keep) {
  return with_store(s, [&](const thole_store &store) {
    return call(
        [&](thole_status *status) { return c.root().checkpoint->retire(c.handle(), &store, keep, nullptr, status); });
  });
}

std::string new_run() {
  uint64_t half[2];
  while (::getrandom(half, sizeof half, 0) != static_cast<ssize_t>(sizeof half)) {
  }
  half[0] = (half[0] & ~uint64_t{0xF000}) | 0x4000;
  half[1] = (half[1] & ~(uint64_t{3} << 62)) | uint64_t{2} << 62;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", half[0] >> 32, half[0] >> 16 & 0xFFFF, half[0] & 0xFFFF,
                     half[1] >> 48, half[1] & 0xFFFFFFFFFFFF);
}

}  // namespace thole::slurm
