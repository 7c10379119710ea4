/* thole/long_header.h: the test makes it too long. */
typedef struct specimen {
  uint64_t v;
} specimen;
