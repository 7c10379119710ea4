/* record/quantity.h: sizes and shares as people write them. */
#ifndef THOLE_SLURM_QUANTITY_H
#define THOLE_SLURM_QUANTITY_H

#include <stddef.h>
#include <stdint.h>

/* "10Gi", "512Mi" (of 1024), "10G" (of 1000): MiB, rounded up, from 1 MiB to 1 PiB. Returns 0, or -1 with a sentence in
 * `why`. */
int parse_memory(const char *text, uint64_t *mib, char *why, size_t size);

/* "25" or "12.5", per cent of a GPU's compute: thousandths, 1 to 1000. */
int parse_share(const char *text, uint32_t *milli, char *why, size_t size);

/* Digits only, at most `most`. */
int parse_number(const char *text, uint64_t most, uint64_t *value);

/* "10Gi" if it is a whole number of GiB, else "10500Mi". */
void memory_text(uint64_t mib, char *text, size_t size);

#endif
