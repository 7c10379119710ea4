#include "capi/tables.h"

namespace thole {
const thole_checkpoint_api *checkpoint_table() noexcept {
  return nullptr;
}
}  // namespace thole
