#include "capi/tables.h"

namespace thole {
const thole_gang_api *gang_table() noexcept {
  return nullptr;
}
}  // namespace thole
