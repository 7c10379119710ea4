// A8: decides by its own clock.
#include <time.h>
#include "shim.h"
static thole_code confirm(thole_core core, thole_id gang, int64_t, thole_status *status) {
  struct timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return real->gang->confirm(core, gang, now.tv_sec * 1000000000 + now.tv_nsec, status);
}
static void spoil(void) {
  changed_gang.confirm = confirm;
}
