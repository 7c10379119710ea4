// A5: a call that takes any handle.
#include "shim.h"
static thole_code release(thole_core core, thole_id gang, thole_status *status) {
  real->gang->release(core, gang, status);
  return THOLE_OK;
}
static void spoil(void) {
  changed_gang.release = release;
}
