#include "quantity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint64_t mib_bytes = 1024 * 1024;
static const uint64_t most_bytes = 1ull << 50; /* 1 Pi */

int parse_number(const char *text, uint64_t most, uint64_t *value) {
  uint64_t n = 0;
  if (*text == 0) return -1;
  for (; *text; ++text) {
    if (*text < '0' || *text > '9') return -1;
    const uint64_t digit = (uint64_t)(*text - '0');
    if (n > (most - digit) / 10) return -1;
    n = n * 10 + digit;
  }
  *value = n;
  return 0;
}

static uint64_t unit_bytes(const char *unit) {
  static const char letters[] = "KMGTP";
  const char *at = *unit ? strchr(letters, *unit == 'k' ? 'K' : *unit) : NULL;
  if (at == NULL) return 0;
  const int binary = unit[1] == 'i';
  if (unit[binary ? 2 : 1] != 0) return 0;
  uint64_t bytes = 1;
  for (const char *letter = letters; letter <= at; ++letter) bytes *= binary ? 1024 : 1000;
  return bytes;
}

int parse_memory(const char *text, uint64_t *mib, char *why, size_t size) {
  char digits[24];
  const size_t count = strspn(text, "0123456789");
  uint64_t number = 0;
  uint64_t unit = 0;
  if (count > 0 && count < sizeof digits) {
    memcpy(digits, text, count);
    digits[count] = 0;
    unit = unit_bytes(text + count);
  }
  if (unit == 0 || parse_number(digits, UINT64_MAX / 10, &number) != 0) {
    snprintf(why, size, "'%.40s' is no size: write a whole number with its unit, such as 10Gi or 512Mi", text);
    return -1;
  }
  if (number == 0 || number > most_bytes / unit) {
    snprintf(why, size, "'%.40s' is out of bounds: from 1Mi to 1Pi is possible", text);
    return -1;
  }
  *mib = (number * unit + mib_bytes - 1) / mib_bytes;
  return 0;
}

int parse_share(const char *text, uint32_t *milli, char *why, size_t size) {
  char whole[8];
  const char *point = strchr(text, '.');
  const size_t count = point ? (size_t)(point - text) : strlen(text);
  uint64_t percent = 0;
  uint64_t tenth = 0;
  int good = count > 0 && count < sizeof whole;
  if (good) {
    memcpy(whole, text, count);
    whole[count] = 0;
    good = parse_number(whole, 100, &percent) == 0 && (point == NULL || parse_number(point + 1, 9, &tenth) == 0);
  }
  const uint64_t value = percent * 10 + tenth;
  if (!good || value < 1 || value > 1000) {
    snprintf(why, size, "'%.40s' is no share: write per cent of a GPU, from 0.1 to 100, such as 25 or 12.5", text);
    return -1;
  }
  *milli = (uint32_t)value;
  return 0;
}

void memory_text(uint64_t mib, char *text, size_t size) {
  if (mib % 1024 == 0) snprintf(text, size, "%" PRIu64 "Gi", mib / 1024);
  else snprintf(text, size, "%" PRIu64 "Mi", mib);
}
