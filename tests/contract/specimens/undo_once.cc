// A12: an undo that may not be repeated.
#include "shim.h"
static thole_code cancel(thole_core core, thole_id gang, thole_status *status) {
  thole_gang_query query = {};
  query.struct_size = sizeof query;
  query.gang = gang;
  thole_plan_list plans = {};
  plans.struct_size = sizeof plans;
  thole_buffer none = {};
  if (real->gang->gangs(core, &query, &plans, &none, nullptr) == THOLE_NOT_FOUND) return THOLE_NOT_FOUND;
  return real->gang->cancel(core, gang, status);
}
static void spoil(void) {
  changed_gang.cancel = cancel;
}
