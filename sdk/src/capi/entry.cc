// The one symbol.
#include <thole/core.h>

#include "base/status.h"
#include "capi/tables.h"

#ifndef THOLE_VERSION
#error "the build says the product's version"
#endif

namespace thole {
namespace {

// Filled by each call with the same constants: no initialisation order, no lock, no guard variable.
const thole_root *root() noexcept {
  static constinit thole_root table{};
  table.struct_size = sizeof(thole_root);
  table.abi_major = THOLE_ABI_MAJOR;
  table.abi_minor = THOLE_ABI_MINOR;
  table.version = THOLE_STR(THOLE_VERSION);
  table.core = core_table();
  table.gang = gang_table();
  table.checkpoint = checkpoint_table();
  table.job = job_table();
  table.device = device_table();
  table.partition = partition_table();
  table.metrics = metrics_table();
  table.recovery = recovery_table();
  return &table;
}

}  // namespace
}  // namespace thole

extern "C" THOLE_EXPORT const thole_root *thole_entry_v1(uint32_t abi_minor, thole_status *status) {
  using namespace thole;
  if (abi_minor > THOLE_ABI_MINOR) {
    report(fail(reason::AbiUnsupported,
                "the host was built with headers 0.{}, this library has 0.{}: install a newer libthole.so.0", abi_minor,
                THOLE_ABI_MINOR)
               .value(),
           status);
    return nullptr;
  }
  return root();
}
