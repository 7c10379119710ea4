/* Thole's library, whose `plan` ends the process when it is asked for a gang with a role of 13 members: a defect that
 * one input meets. THOLE_REAL_LIBRARY says where the real one is. */
#include <dlfcn.h>
#include <stdlib.h>
#include <thole/gang.h>
#include <thole/thole.h>

static const thole_root *real;
static thole_root root;
static thole_gang_api gang;

static thole_code plan(thole_core core, const thole_gang_request *request, int64_t now_ns, thole_plan *out,
                       thole_buffer *room, thole_status *status) {
  for (uint64_t i = 0; i < request->roles.count; ++i)
    if (THOLE_AT(request->roles, thole_role, i)->members == 13) abort();
  return real->gang->plan(core, request, now_ns, out, room, status);
}

THOLE_EXPORT const thole_root *thole_entry_v1(uint32_t abi_major, uint32_t abi_minor, thole_status *status) {
  void *library = dlopen(getenv("THOLE_REAL_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
  thole_entry_v1_fn entry;
  if (library == NULL) abort();
  *(void **)&entry = dlsym(library, THOLE_ENTRY_SYMBOL);
  real = entry(abi_major, abi_minor, status);
  if (real == NULL) return NULL;
  root = *real;
  gang = *real->gang;
  gang.plan = plan;
  root.gang = &gang;
  return &root;
}
