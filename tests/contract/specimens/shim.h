// A library that answers with the real one's tables, some slots of which it changes. Each specimen is a host's bad day:
// it breaks one rule, and tests/contract/test_specimens.py shows that the test of that rule, and none before it,
// notices.
#pragma once

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <thole/draft/device.h>
#include <thole/draft/job.h>
#include <thole/draft/metrics.h>
#include <thole/draft/partition.h>
#include <thole/draft/recovery.h>
#include <thole/thole.h>

static const thole_root *real;
static thole_root changed_root;
static thole_core_api changed_core;
static thole_gang_api changed_gang;

// What the specimen changes.
static void spoil(void);

static thole_entry_v1_fn real_entry(void) {
  void *library = dlopen(getenv("THOLE_REAL_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fprintf(stderr, "THOLE_REAL_LIBRARY: %s\n", dlerror());
    exit(3);
  }
  return reinterpret_cast<thole_entry_v1_fn>(dlsym(library, THOLE_ENTRY_SYMBOL));
}

extern "C" THOLE_EXPORT const thole_root *thole_entry_v1(uint32_t major, uint32_t minor, thole_status *status) {
  const thole_root *answer = real_entry()(major, minor, status);
  if (answer == nullptr || major != THOLE_ABI_MAJOR || minor != THOLE_ABI_MINOR) return answer;
  if (real == nullptr) {
    real = answer;
    changed_root = *real;
    changed_core = *real->core;
    changed_gang = *real->gang;
    changed_root.core = &changed_core;
    changed_root.gang = &changed_gang;
    spoil();
  }
  return &changed_root;
}
