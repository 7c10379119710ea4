#include "core/library.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"

namespace thole::local {

void answer_room::grow() {
  const uint64_t wanted = std::max<uint64_t>(buffer_.used / 8 + 1, words_.size() * 2);
  words_.assign(wanted, 0);
  buffer_ = {words_.data(), words_.size() * 8, 0};
}

namespace {
void write_log(void *, thole_log_level level, thole_str component, thole_str message) {
  log_from_core(level, view(component), view(message));
}
}  // namespace

result<std::unique_ptr<library>> library::open(const options &o) {
  thole_status status{};
  status.struct_size = sizeof status;
  std::unique_ptr<library> l(new library);
  l->root_ = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, &status);
  if (l->root_ == nullptr) return tl::unexpected(make_problem(status, status.code));
  auto log = sized<thole_host_log>();
  log.write = write_log;
  auto open = sized<thole_core_options>();
  open.log = &log;
  open.state = borrow(o.ledger);
  open.metrics = borrow(o.metrics);
  THOLE_TRY(call([&](thole_status *s) { return l->root_->core->open(&open, &l->core_, s); }));
  return l;
}

library::~library() {
  if (core_.v == 0) return;
  auto closed = call([&](thole_status *s) { return root_->core->close(core_, s); });
  if (!closed) log_from_core(THOLE_LOG_WARN, "core", closed.error().message);
}

std::string library::path() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void *>(&thole_entry_v1), &info) == 0 || info.dli_fname == nullptr) return {};
  char *real = ::realpath(info.dli_fname, nullptr);
  std::string path = real == nullptr ? info.dli_fname : real;
  ::free(real);
  return path;
}

}  // namespace thole::local
