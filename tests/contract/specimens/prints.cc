// A7: speaks to the host's terminal.
#include "shim.h"
static thole_code load(thole_core core, thole_str folder, thole_status *status) {
  fprintf(stderr, "thole: loading plugins\n");
  return real->core->load(core, folder, status);
}
static void spoil(void) {
  changed_core.load = load;
}
