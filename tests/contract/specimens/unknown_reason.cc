// A4: a reason that is in no table.
#include "shim.h"
static thole_code cancel(thole_core core, thole_id gang, thole_status *status) {
  const thole_code code = real->gang->cancel(core, gang, status);
  if (code != THOLE_OK && status != nullptr) strcpy(status->reason, "SomethingWentWrong");
  return code;
}
static void spoil(void) {
  changed_gang.cancel = cancel;
}
