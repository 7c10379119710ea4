#include "capi/tables.h"

namespace thole {
const thole_device_api *device_table() noexcept {
  return nullptr;
}
}  // namespace thole
