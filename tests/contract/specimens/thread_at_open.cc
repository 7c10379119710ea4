// A8: a thread of its own.
#include <pthread.h>
#include "shim.h"
static void *idle(void *) {
  for (;;) pause();
}
static thole_code open(const thole_core_options *options, thole_core *core, thole_status *status) {
  pthread_t thread;
  pthread_create(&thread, nullptr, idle, nullptr);
  pthread_detach(thread);
  return real->core->open(options, core, status);
}
static void spoil(void) {
  changed_core.open = open;
}
