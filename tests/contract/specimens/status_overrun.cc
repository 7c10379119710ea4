// A4: writes the whole status, however little of it the caller has.
#include "shim.h"
static thole_code open(const thole_core_options *options, thole_core *core, thole_status *status) {
  thole_status full = {};
  full.struct_size = sizeof full;
  const thole_code code = real->core->open(options, core, &full);
  if (code != THOLE_OK && status != nullptr) {
    full.struct_size = status->struct_size;
    memcpy(static_cast<void *>(status), &full, sizeof full);
  }
  return code;
}
static void spoil(void) {
  changed_core.open = open;
}
