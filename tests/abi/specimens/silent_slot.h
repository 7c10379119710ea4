/* thole/silent_slot.h: a slot that says nothing. */
typedef struct specimen_api {
  uint64_t struct_size; /* sized: append-only */
  /* Spoken for. */
  thole_code (*first)(void);
  thole_code (*second)(void);
} specimen_api;
