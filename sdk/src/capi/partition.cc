#include "capi/tables.h"

namespace thole {
const thole_partition_api *partition_table() noexcept {
  return nullptr;
}
}  // namespace thole
