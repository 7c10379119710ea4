// A12: a reservation that fails and keeps something all the same.
#include "shim.h"
static thole_code reserve(thole_core core, const thole_gang_request *request, const thole_plan *plan,
                          const thole_reservation *reservation, thole_status *status) {
  const thole_code code = real->gang->reserve(core, request, plan, reservation, status);
  if (code == THOLE_CONFLICT) {
    // One member of what did not fit.
    thole_role role = *THOLE_AT(request->roles, thole_role, 0);
    role.members = 1;
    role.device_kind = THOLE_KIND_VGPU;
    role.vgpu_memory_mib = 1024;
    thole_gang_request part = *request;
    part.roles.data = &role;
    part.roles.count = 1;
    part.roles.stride = sizeof role;
    static uint64_t words[4096];
    thole_buffer room = {words, sizeof words, 0};
    thole_plan small = {};
    small.struct_size = sizeof small;
    if (real->gang->plan(core, &part, 0, &small, &room, nullptr) == THOLE_OK)
      real->gang->reserve(core, &part, &small, reservation, nullptr);
  }
  return code;
}
static void spoil(void) {
  changed_gang.reserve = reserve;
}
