// The one symbol.
#include <thole/core.h>

#include "base/status.h"
#include "capi/tables.h"

#ifndef THOLE_VERSION
#error "the build says the product's version"
#endif

namespace thole {
namespace {

constexpr thole_str version = {THOLE_VERSION, sizeof(THOLE_VERSION) - 1};

constinit const thole_root stable = {
    sizeof(thole_root), THOLE_ABI_MAJOR, THOLE_ABI_MINOR, version, &core_table, &gang_table,
    &checkpoint_table,  nullptr,         nullptr,         nullptr, nullptr,     nullptr};

// A draft's layout may change with any minor: only a host of exactly this minor knows it.
constinit const thole_root with_drafts = {sizeof(thole_root), THOLE_ABI_MAJOR,  THOLE_ABI_MINOR,   version,
                                          &core_table,        &gang_table,      &checkpoint_table, &job_table,
                                          &device_table,      &partition_table, &metrics_table,    &recovery_table};

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
  return abi_minor == THOLE_ABI_MINOR ? &with_drafts : &stable;
}
