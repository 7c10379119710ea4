// A7: opens something at each open, and never closes it.
#include <fcntl.h>
#include "shim.h"
static thole_code open_core(const thole_core_options *options, thole_core *core, thole_status *status) {
  open("/dev/null", O_RDONLY | O_CLOEXEC);
  return real->core->open(options, core, status);
}
static void spoil(void) {
  changed_core.open = open_core;
}
