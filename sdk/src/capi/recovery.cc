#include "capi/tables.h"

namespace thole {
const thole_recovery_api *recovery_table() noexcept {
  return nullptr;
}
}  // namespace thole
