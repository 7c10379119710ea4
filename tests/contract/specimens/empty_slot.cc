// A2: a table says that it is as long as the header's, and has a slot that is NULL.
#include "shim.h"
static void spoil(void) {
  changed_gang.usage = nullptr;
}
