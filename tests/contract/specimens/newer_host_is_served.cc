// A2: answers hosts that need a newer library than this one.
#define thole_entry_v1 entry_of_shim
#include "shim.h"
#undef thole_entry_v1
static void spoil(void) {}
extern "C" THOLE_EXPORT const thole_root *thole_entry_v1(uint32_t, uint32_t, thole_status *status) {
  return entry_of_shim(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, status);
}
