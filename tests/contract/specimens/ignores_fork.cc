// A9: asks for a plan in a child as if nothing had happened.
#include "shim.h"
static thole_code plan(thole_core core, const thole_gang_request *request, int64_t now, thole_plan *to,
                       thole_buffer *room, thole_status *status) {
  const thole_code code = real->gang->plan(core, request, now, to, room, status);
  return code == THOLE_FORKED ? THOLE_OK : code;
}
static void spoil(void) {
  changed_gang.plan = plan;
}
