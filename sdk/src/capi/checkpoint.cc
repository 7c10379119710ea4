#include "capi/tables.h"

namespace thole {
const thole_checkpoint_api *checkpoint_table() noexcept {
  return nullptr;
}
thole_code key_new(thole_core, thole_str, thole_status *) {
  return THOLE_UNSUPPORTED;
}
}  // namespace thole
