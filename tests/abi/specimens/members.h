/* thole/members.h: every kind of member that rule A6 forbids, and some that it does not. */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum specimen_colour { SPECIMEN_RED };

typedef struct specimen_good {
  uint64_t good_size;
  double good_double;
  char good_text[8];
  const char *good_pointer;
  int32_t (*good_slot)(void *self, uint32_t n);
} specimen_good;

typedef struct specimen {
  bool truth;
  enum specimen_colour colour;
  long wide;
  size_t size;
  uint32_t bits : 3;
  va_list rest;
  union specimen_either {
    int32_t a;
    float b;
  } either;
  int32_t (*printf_like)(const char *format, ...);
  int32_t (*takes_long)(long n);
} specimen;
