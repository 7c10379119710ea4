// The one symbol.
#include <thole/core.h>

#include "base/status.h"
#include "capi/tables.h"

#ifndef THOLE_VERSION
#error "the build says the product's version"
#endif

namespace thole {
namespace {

// Built at compile time but for the tables, which are constants of other files: each call stores the same values, so
// there is no initialisation order, no lock and no guard variable.
const thole_root *stable() noexcept {
  static constinit thole_root root{};
  root.struct_size = sizeof(thole_root);
  root.abi_major = THOLE_ABI_MAJOR;
  root.abi_minor = THOLE_ABI_MINOR;
  root.version = THOLE_STR(THOLE_VERSION);
  root.core = core_table();
  root.gang = gang_table();
  root.checkpoint = checkpoint_table();
  return &root;
}

// A draft's layout may change with any minor: only a host of exactly this minor knows it.
const thole_root *with_drafts() noexcept {
  static constinit thole_root root{};
  root = *stable();
  root.job = job_table();
  root.device = device_table();
  root.partition = partition_table();
  root.metrics = metrics_table();
  root.recovery = recovery_table();
  return &root;
}

}  // namespace
}  // namespace thole

extern "C" THOLE_EXPORT const thole_root *thole_entry_v1(uint32_t abi_major, uint32_t abi_minor, thole_status *status) {
  using namespace thole;
  if (abi_major != THOLE_ABI_MAJOR || abi_minor > THOLE_ABI_MINOR) {
    const auto refusal =
        fail(reason::AbiUnsupported,
             "the host was built with headers {}.{}, this library has {}.{}: install a libthole of that version",
             abi_major, abi_minor, THOLE_ABI_MAJOR, THOLE_ABI_MINOR);
    report(refusal.value(), status);
    return nullptr;
  }
  return abi_minor == THOLE_ABI_MINOR ? with_drafts() : stable();
}
