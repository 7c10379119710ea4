/* thole/foreign_include.h: needs a header that the contract does without. */
#include <stdbool.h>
typedef struct specimen {
  uint64_t struct_size; /* sized */
} specimen;
