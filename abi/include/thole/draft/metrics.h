/* thole/draft/metrics.h: counters, gauges and histograms that survive the process that wrote them.
 *
 * DRAFT: may change with any minor. A family is defined once, a series is bound once, and its cell is then written without
 * a call: thole_counter_add is one atomic add in memory that is a mapped file if the core was opened with `metrics`. The
 * file stays readable when its process is killed; a collector folds such files into one text, in which a counter never
 * goes back. Series are bounded: beyond its cap a family counts into one series whose labels are all "overflow".
 */
#ifndef THOLE_DRAFT_METRICS_H
#define THOLE_DRAFT_METRICS_H
#ifndef THOLE_ENABLE_DRAFT
#error "thole/draft/metrics.h is a draft: define THOLE_ENABLE_DRAFT and expect changes"
#endif

#include <thole/core.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t thole_metric_kind;
enum { THOLE_METRIC_COUNTER = 1, THOLE_METRIC_GAUGE = 2, THOLE_METRIC_HISTOGRAM = 3 };

typedef struct thole_family {
  uint64_t struct_size;  /* sized */
  thole_str name;        /* as OpenMetrics has it: a counter without "_total", a unit as suffix ("_seconds") */
  thole_str help;
  thole_str unit;        /* "" or "seconds", "bytes", "ratio" */
  thole_metric_kind kind;
  uint32_t max_series;   /* 0 means 1,000 */
  thole_list labels;     /* of thole_str: the keys */
  const double *bounds;  /* of a histogram's buckets, rising, without +Inf */
  uint64_t bound_count;  /* 0..64 */
} thole_family;

/* frozen: one series' memory, 64 bytes apart from the next. Counters and gauges use `value`; counts are exact up to 2^53. */
typedef struct thole_cell {
  double value;
  uint64_t count;    /* of a histogram */
  uint64_t *buckets; /* of a histogram: bound_count + 1 */
  const double *bounds;
  uint64_t bound_count;
} thole_cell;

typedef struct thole_metrics_api {
  uint64_t struct_size; /* sized: append-only */
  /* Defines a family, or finds the same one again. *family is its number in this core.
   * At most 1,024 families, 16 labels each. Fails: THOLE_INVALID (MetricBad), THOLE_EXISTS (MetricDiffers),
   * THOLE_EXHAUSTED (MetricsFull, StoreFull). */
  thole_code (*define)(thole_core core, const thole_family *definition, uint32_t *family, thole_status *status);
  /* Binds label values (thole_str, in the order of the keys). *cell stays mapped as long as the process lives, also after
   * close; what is added then is lost. Its blocks are allocated: a full disk fails here (StoreFull), not in an add. A forked
   * child must not write to it: its counts would be the parent's. The same values give the same cell.
   * Fails: THOLE_INVALID (MetricBad), THOLE_EXHAUSTED (StoreFull, MetricsFull). */
  thole_code (*bind)(thole_core core, uint32_t family, const thole_list *values, thole_cell **cell,
                     thole_status *status);
  /* Adds what a metrics file says, of a process that lives or died, to what render prints. The same file again replaces
   * what it said; a file of that name that another process has made since is added to it. This core's own file is left
   * out, since render has it already. Fails: THOLE_DATA_LOSS (MetricsFileBad), THOLE_NOT_FOUND. */
  thole_code (*collect)(thole_core core, thole_str file, thole_status *status);
  /* All series as OpenMetrics 1.0 text, ending in "# EOF". Fails: nothing of its own. */
  thole_code (*render)(thole_core core, thole_str *text, thole_buffer *room, thole_status *status);
} thole_metrics_api;

/* Adds to a counter or gauge. [any thread; no call, no lock] `amount` of a counter is >= 0. */
static inline void thole_counter_add(thole_cell *cell, double amount) {
  double seen;
  double next;
  __atomic_load(&cell->value, &seen, __ATOMIC_RELAXED);
  do {
    next = seen + amount;
  } while (!__atomic_compare_exchange(&cell->value, &seen, &next, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

static inline void thole_gauge_set(thole_cell *cell, double value) {
  __atomic_store(&cell->value, &value, __ATOMIC_RELAXED);
}

/* Records one value in a histogram. NaN is above every bound. */
static inline void thole_histogram_observe(thole_cell *cell, double value) {
  uint64_t i = 0;
  while (i < cell->bound_count && !(value <= cell->bounds[i])) ++i;
  __atomic_fetch_add(&cell->buckets[i], 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&cell->count, 1, __ATOMIC_RELAXED);
  thole_counter_add(cell, value);
}

#ifdef __cplusplus
}
#endif
#endif
