// A3: demands that a struct has exactly the size that it has here.
#include "shim.h"
static thole_code explain(thole_core core, const thole_gang_request *request, int64_t now, thole_explanation *to,
                          thole_buffer *room, thole_status *status) {
  if (to != nullptr && to->struct_size != sizeof(thole_explanation)) return THOLE_INVALID;
  return real->gang->explain(core, request, now, to, room, status);
}
static void spoil(void) {
  changed_gang.explain = explain;
}
