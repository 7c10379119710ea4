#include "capi/tables.h"

namespace thole {
const thole_metrics_api *metrics_table() noexcept {
  return nullptr;
}
}  // namespace thole
