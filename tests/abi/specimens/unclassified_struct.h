/* thole/unclassified_struct.h: a struct that may or may not grow. */
typedef struct specimen {
  uint32_t a;
  uint32_t b;
} specimen;
