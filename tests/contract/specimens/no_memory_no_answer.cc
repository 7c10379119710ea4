// A7: lets the exception out that says that memory is out.
#include <new>
#include "shim.h"
static thole_code cancel(thole_core core, thole_id gang, thole_status *status) {
  delete new int(1);
  return real->gang->cancel(core, gang, status);
}
static void spoil(void) {
  changed_gang.cancel = cancel;
}
