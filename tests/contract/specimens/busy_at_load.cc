// A7: a constructor that opens a file and takes a signal.
#include <fcntl.h>
#include <signal.h>
#include "shim.h"
static void spoil(void) {}
__attribute__((constructor)) static void at_load(void) {
  open("/dev/null", O_RDONLY);
  signal(SIGPIPE, SIG_IGN);
}
