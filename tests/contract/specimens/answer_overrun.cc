// A3: fills an answer as long as its own header has it, not as long as the caller's.
#include "shim.h"
static thole_code usage(thole_core core, const thole_gang_query *query, thole_usage *to, thole_buffer *room,
                        thole_status *status) {
  const uint64_t size = to->struct_size;
  if (size < 8 || size > 65536) return real->gang->usage(core, query, to, room, status);
  thole_usage full = {};
  full.struct_size = sizeof full;
  const thole_code code = real->gang->usage(core, query, &full, room, status);
  full.struct_size = size;
  if (code == THOLE_OK) memcpy(static_cast<void *>(to), &full, sizeof full);
  return code;
}
static void spoil(void) {
  changed_gang.usage = usage;
}
