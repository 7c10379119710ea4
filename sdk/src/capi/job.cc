#include "capi/tables.h"

namespace thole {
const thole_job_api *job_table() noexcept {
  return nullptr;
}
}  // namespace thole
