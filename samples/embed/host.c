/* A scheduler in a page: its own inventory, its own clock. Prints which member of a gang got which GPU. */
#include <stdio.h>
#include <thole/thole.h>

#define SIZED(T) .struct_size = sizeof(T)
#define LIST(a) {a, sizeof(a) / sizeof(a)[0], sizeof(a)[0]}

static thole_status status = {SIZED(thole_status)};
static int failed(const char *what) { return fprintf(stderr, "%s: %s: %s\n", what, status.reason, status.message), 1; }

int main(void) {
  const thole_root *thole = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, &status);
  thole_core core;
  if (thole == NULL || thole->core->open(NULL, &core, &status) != THOLE_OK) return failed("open");
  const thole_gang_api *gangs = thole->gang;

  const thole_gpu gpus[] = {{SIZED(thole_gpu), THOLE_STR("GPU-0"), THOLE_STR("H200"), 143142, 500, 0, 0, {0}},
                            {SIZED(thole_gpu), THOLE_STR("GPU-1"), THOLE_STR("H200"), 143142, 500, 0, 0, {0}}};
  const thole_node nodes[] = {{SIZED(thole_node), .name = THOLE_STR("node-a"), .cpu_milli = 64000, .memory_mib = 262144, .gpus = LIST(gpus)}};
  const thole_role roles[] = {{SIZED(thole_role), .name = THOLE_STR("worker"), .members = 2, .device_kind = THOLE_KIND_WHOLE, .devices = 1}};
  const thole_gang_request request = {SIZED(thole_gang_request), .gang = {7, 1}, .roles = LIST(roles)};
  const thole_list inventory = LIST(nodes);
  int64_t now = 1000000000; /* nanoseconds, on the host's own clock */

  static uint64_t memory[4096];
  thole_buffer room = {memory, sizeof memory, 0};
  thole_plan plan = {SIZED(thole_plan)};
  const thole_reservation hold = {SIZED(thole_reservation), .now_ns = now, .expires_ns = now + 30000000000};
  if (gangs->set_nodes(core, &inventory, &status) != THOLE_OK) return failed("set_nodes");
  if (gangs->plan(core, &request, now, &plan, &room, &status) != THOLE_OK) return failed("plan");
  if (gangs->reserve(core, &request, &plan, &hold, &status) != THOLE_OK) return failed("reserve");
  if (gangs->confirm(core, request.gang, now, &status) != THOLE_OK) return failed("confirm");
  for (uint64_t i = 0; i < plan.placements.count; ++i) {
    const thole_placement *p = THOLE_AT(plan.placements, thole_placement, i);
    const thole_grant *g = THOLE_AT(p->grants, thole_grant, 0);
    printf("member %u on %.*s: %.*s\n", p->member, (int)p->node.len, p->node.data, (int)g->uuid.len, g->uuid.data);
  }
  return gangs->release(core, request.gang, &status) | thole->core->close(core, &status);
}
