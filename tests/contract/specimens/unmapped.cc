// A11: a library that dlclose unmaps. (Built without -z nodelete, as the others are; this one changes nothing else.)
#include "shim.h"
static void spoil(void) {}
