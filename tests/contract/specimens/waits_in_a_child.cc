// A9: guards the entry of a call with a lock, which a child may find taken for ever.
#include <pthread.h>
#include "shim.h"
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static thole_code usage(thole_core core, const thole_gang_query *query, thole_usage *to, thole_buffer *room,
                        thole_status *status) {
  pthread_mutex_lock(&lock);
  const thole_code code = real->gang->usage(core, query, to, room, status);
  pthread_mutex_unlock(&lock);
  return code;
}
static thole_code close_core(thole_core core, thole_status *status) {
  pthread_mutex_lock(&lock);
  const thole_code code = real->core->close(core, status);
  pthread_mutex_unlock(&lock);
  return code;
}
static void spoil(void) {
  changed_gang.usage = usage;
  changed_core.close = close_core;
}
