/* thole/wide_table.h: one slot too many. */
typedef struct specimen_api {
  uint64_t struct_size; /* sized: append-only */
  /* Slot 0. */
  thole_code (*slot_0)(void);
  /* Slot 1. */
  thole_code (*slot_1)(void);
  /* Slot 2. */
  thole_code (*slot_2)(void);
  /* Slot 3. */
  thole_code (*slot_3)(void);
  /* Slot 4. */
  thole_code (*slot_4)(void);
  /* Slot 5. */
  thole_code (*slot_5)(void);
  /* Slot 6. */
  thole_code (*slot_6)(void);
  /* Slot 7. */
  thole_code (*slot_7)(void);
  /* Slot 8. */
  thole_code (*slot_8)(void);
  /* Slot 9. */
  thole_code (*slot_9)(void);
  /* Slot 10. */
  thole_code (*slot_10)(void);
  /* Slot 11. */
  thole_code (*slot_11)(void);
  /* Slot 12. */
  thole_code (*slot_12)(void);
} specimen_api;
