// A7: changes the process's umask.
#include <sys/stat.h>
#include "shim.h"
static thole_code usage(thole_core core, const thole_gang_query *query, thole_usage *to, thole_buffer *room,
                        thole_status *status) {
  static mode_t mask = 0;
  umask(mask ^= 077);
  return real->gang->usage(core, query, to, room, status);
}
static void spoil(void) {
  changed_gang.usage = usage;
}
