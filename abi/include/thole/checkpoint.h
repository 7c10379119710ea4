/* thole/checkpoint.h: encrypted checkpoints that are whole, of one step, and from the right attempt, or not there.
 *
 *     every rank:  begin -> put, put, ... -> seal -> end   the rank that seals last commits for all
 *     any process: open -> describe -> get, get, ... -> close
 *     a platform:  fence(attempt) before it starts an attempt; retire to keep the newest
 *
 * A checkpoint has as many parts as ranks saved it. Each part is encrypted (AES-256-GCM under keys that HKDF derives from
 * the checkpoint's own key) and immutable; a manifest that authenticates all of them is the commit. It exists only when
 * every part is durable, so a checkpoint that can be opened is complete. Ranks need no channel among themselves: the one
 * that finds all parts present writes the manifest, with a put-if-absent on a store that knows nothing else. Nothing is
 * ever unpickled or executed, and no byte is handed out before its tag was checked.
 * The format is docs/reference/checkpoint-format.md.
 *
 * Fencing: attempt n of a run first publishes fence n. From then on what an older attempt seals is refused where the
 * writer sees the fence, and ignored by readers where it does not.
 *
 * What it does not do: protect from someone who holds the key, or hide sizes and times.
 */
#ifndef THOLE_CHECKPOINT_H
#define THOLE_CHECKPOINT_H

#include <thole/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bounds: beyond one of them a call is THOLE_INVALID with OverBound. */
#define THOLE_MAX_PARTS 65536u    /* ranks that save one checkpoint                     */
#define THOLE_MAX_ITEMS 1048576u  /* items of one part                                  */
#define THOLE_MAX_DIMS 32u        /* dimensions of a tensor                             */
#define THOLE_MAX_ITEM_NAME 1024u /* bytes                                              */
#define THOLE_MAX_VALUE 16777216u /* bytes of a value that is no tensor                 */
#define THOLE_MAX_ATTEMPT 1048576u /* a number beyond it is a mistake, and would fence the run for ever */
#define THOLE_MAX_STEP 4611686018427387904u /* train steps: 2^62 */
#define THOLE_MAX_OPEN 256u        /* writers, and as many readers, of one process: THOLE_EXHAUSTED (HandlesOut) */

/* Opaque handles of one process. {0} is none. Two calls on one writer or reader at once wait for each other. */
typedef struct thole_writer {
  uint64_t v;
} thole_writer;
typedef struct thole_reader {
  uint64_t v;
} thole_reader;

/* --- Where, and under which key. -------------------------------------------------------------------------------- */

typedef int32_t thole_key_kind;
enum {
  THOLE_KEY_FILE = 1,  /* a file that thole_core_api.key_new wrote, readable by its owner only                      */
  THOLE_KEY_HELPER = 2 /* a program that wraps and unwraps: JSON on its pipes (docs/reference/key-helper.md), 10 s  */
};

/* The key that wraps each checkpoint's own key. Its bytes stay inside the core, locked in memory, for the call or the
 * life of a writer or reader; they are in no log, status, environment or core dump. */
typedef struct thole_key {
  uint64_t struct_size; /* sized */
  thole_key_kind kind;
  uint32_t reserved;
  thole_str path;       /* of the file, or of the helper's program, which is absolute */
  thole_list arguments; /* of thole_str: the helper's, without argv[0]; 64 at most */
} thole_key;

/* A folder of checkpoints of one run. A run keeps its id through all its attempts. A relative path is taken from the
 * working folder that the process has at the call. */
typedef struct thole_store {
  uint64_t struct_size;  /* sized */
  thole_str folder;      /* UTF-8 path. fence and begin make it if it is missing, with mode 0700, unless the anchor
                          * remembers a checkpoint there; everything else answers StoreGone */
  thole_id run;
  const thole_key *key;
  /* A file outside the store, private to its owner, that remembers the newest checkpoint seen. With it, a store that
   * was put back to an older state is noticed (CheckpointRolledBack). Empty: freshness is reported as unproven. */
  thole_str anchor;
} thole_store;

/* --- What is saved. --------------------------------------------------------------------------------------------- */

typedef int32_t thole_item_kind;
enum {
  THOLE_ITEM_TENSOR = 1,
  THOLE_ITEM_INT = 2,   /* 8 bytes, int64_t                                                                            */
  THOLE_ITEM_FLOAT = 3, /* 8 bytes, IEEE 754 binary64; every NaN keeps its bits                                        */
  THOLE_ITEM_BOOL = 4,  /* 1 byte, 0 or 1                                                                              */
  THOLE_ITEM_TEXT = 5,  /* UTF-8                                                                                       */
  THOLE_ITEM_BYTES = 6
};

/* One item of a part. A tensor that is cut over the ranks has the same name, dtype and global shape in each part, and
 * boxes that together cover it exactly; a replicated one is saved whole by any number of ranks. A value that is no tensor
 * belongs to the checkpoint, is saved under the same name by any number of ranks, and must then be equal in all. */
typedef struct thole_item {
  uint64_t struct_size; /* sized */
  thole_str name;       /* UTF-8, unique in the part, without NUL */
  thole_item_kind kind;
  uint32_t dims;
  /* Tensors only. By name: bool, int8..int64, uint8..uint64, float16, bfloat16, float32, float64, complex64,
   * complex128, float8_e4m3fn, float8_e5m2, float8_e4m3b11fnuz, float8_e4m3fnuz, float8_e5m2fnuz, float8_e8m0fnu. */
  thole_str dtype;
  const uint64_t *shape;  /* of the whole tensor, dims elements */
  const uint64_t *start;  /* of this part's box; NULL means zeros */
  const uint64_t *extent; /* of this part's box; NULL means shape */
  /* The box in row-major order without gaps, little-endian; or the value. In describe: the value; empty for a tensor. */
  thole_bytes data;
} thole_item;

typedef struct thole_save {
  uint64_t struct_size; /* sized */
  uint64_t attempt;     /* of the run, 1 .. THOLE_MAX_ATTEMPT: the fence */
  uint64_t step;        /* train steps that are done; more than this attempt has committed so far */
  uint32_t part;        /* 0 .. parts - 1: the rank */
  uint32_t parts;
} thole_save;

typedef struct thole_sealed {
  uint64_t struct_size; /* sized */
  uint32_t committed;   /* 1 if this seal made the checkpoint complete, or found it complete */
  uint32_t missing;     /* parts that other ranks have not sealed yet */
  uint64_t bytes;       /* of this part's items */
  uint64_t file_bytes;  /* of this part as stored */
  int64_t duration_ns;  /* since begin, on the monotonic clock */
  thole_id checkpoint;
} thole_sealed;

/* --- What is there. --------------------------------------------------------------------------------------------- */

typedef int32_t thole_checkpoint_state;
enum {
  THOLE_CHECKPOINT_COMMITTED = 1,
  THOLE_CHECKPOINT_INCOMPLETE = 2, /* parts are missing: being written, or left behind by a kill                      */
  THOLE_CHECKPOINT_FENCED = 3,     /* complete, but an older attempt committed it after a newer one had begun         */
  THOLE_CHECKPOINT_DAMAGED = 4
};

typedef int32_t thole_freshness;
enum {
  THOLE_FRESHNESS_UNPROVEN = 0, /* nothing outside the store says that there was no newer one                          */
  THOLE_FRESHNESS_PROVEN = 1    /* the anchor agrees                                                                   */
};

typedef struct thole_checkpoint_info {
  uint64_t struct_size; /* sized */
  thole_id checkpoint;
  thole_checkpoint_state state;
  uint32_t parts;         /* that it has, or should have */
  uint32_t parts_present;
  thole_freshness freshness;
  uint64_t attempt;
  uint64_t step;
  uint64_t sequence;      /* 1, 2, ... over the commits of the run */
  uint64_t bytes;         /* of all items; 0 unless committed */
  uint64_t file_bytes;    /* of all files */
  int64_t committed_unix_ns; /* by the committing machine's clock; for people, never for decisions */
  thole_str path;         /* of its folder */
  thole_str reason;       /* why it is incomplete, fenced or damaged */
} thole_checkpoint_info;

typedef struct thole_checkpoint_list {
  uint64_t struct_size;  /* sized */
  thole_list checkpoints; /* of thole_checkpoint_info, newest first: by attempt, then by step */
} thole_checkpoint_list;

/* A checkpoint that is open. */
typedef struct thole_checkpoint_contents {
  uint64_t struct_size; /* sized */
  const thole_checkpoint_info *info; /* in room */
  thole_list items;     /* of thole_item, by name: a tensor once, with its global shape and no data */
} thole_checkpoint_contents;

typedef struct thole_verified {
  uint64_t struct_size; /* sized */
  uint32_t parts;       /* read and found good */
  uint32_t reserved;
  uint64_t chunks;      /* decrypted, each with its own tag */
  uint64_t bytes;       /* of all items */
} thole_verified;

typedef int32_t thole_which_by;
enum {
  THOLE_BY_NEWEST = 0, /* the newest that counts: of the highest attempt, and of its highest step                     */
  THOLE_BY_STEP = 1,   /* the newest of a step                                                                         */
  THOLE_BY_ID = 2
};

/* Which checkpoint open and verify take. */
typedef struct thole_which {
  uint64_t struct_size; /* sized */
  thole_which_by by;
  uint32_t reserved;
  uint64_t step;        /* for THOLE_BY_STEP */
  thole_id checkpoint;  /* for THOLE_BY_ID */
} thole_which;

/* What a fence accepts from earlier attempts. */
typedef struct thole_fenced {
  uint64_t struct_size; /* sized */
  thole_id checkpoint;  /* zero: none, start from the beginning */
  uint64_t step;        /* its train steps */
} thole_fenced;

/* A box of a tensor, or a value, to be read. This version reads rows: start and extent are free in the first dimension
 * and whole in the others (THOLE_UNSUPPORTED otherwise). */
typedef struct thole_box {
  uint64_t struct_size;   /* sized */
  thole_str name;
  const uint64_t *start;  /* dims elements; NULL: zeros */
  const uint64_t *extent; /* dims elements; NULL: up to the end */
  uint32_t dims;          /* the tensor's; 0 if both are NULL */
  uint32_t reserved;
  void *to;
  uint64_t size;          /* exactly the bytes of the box, or of the value */
} thole_box;

/* --- The service. Since 0.1. ------------------------------------------------------------------------------------- */

typedef struct thole_checkpoint_api {
  uint64_t struct_size; /* sized: append-only */

  /* Publishes that `attempt` has begun, with the newest checkpoint that it accepts from its predecessors, which is what all
   * its ranks restore. The same attempt again answers what it answered. fenced may be NULL.
   * [every call of this table may block: I/O, and the key's helper]
   * Fails: THOLE_FENCED (AttemptFenced: a newer attempt has begun), KeyMissing, KeyWrong, KeyNotPrivate, KeyHelperFailed,
   * StoreReadOnly, StoreFull, StoreGone, CheckpointRolledBack. */
  thole_code (*fence)(thole_core core, const thole_store *store, uint64_t attempt, thole_fenced *fenced,
                      thole_status *status);

  /* Begins this rank's part. Nothing that a reader opens changes before seal. An attempt without a fence of its own may save
   * as long as no newer one has any. Within an attempt steps only grow: work that goes back is a new attempt.
   * Owns: *writer is the caller's, who gives it to end, also after seal. Store and key are copied.
   * Fails: as fence; THOLE_EXISTS (PartExists: this attempt has sealed that part of that step); THOLE_REFUSED (StepPast:
   * this attempt has committed a later step). */
  thole_code (*begin)(thole_core core, const thole_store *store, const thole_save *save, thole_writer *writer,
                      thole_status *status);

  /* Adds an item; its data are encrypted and written before the call returns, and not kept.
   * Fails: THOLE_INVALID (ItemBad: name, dtype, shape, box or length), StoreFull, StoreGone; after a failure that is not
   * THOLE_INVALID only end is left (WriterBroken). WriterSealed. */
  thole_code (*put)(thole_writer writer, const thole_item *item, thole_status *status);

  /* Makes this part durable, and commits the checkpoint if it was the last. A crash at any instant leaves the whole
   * checkpoint or none of it. On a sealed writer it looks again: it commits if all parts are there by now, and answers the
   * rest as before. sealed may be NULL.
   * Fails: THOLE_FENCED (AttemptFenced); THOLE_REFUSED (PartsDisagree: the parts' shapes, dtypes, boxes or values do not
   * make one checkpoint; nothing is committed; StepPast; WriterBroken); StoreFull, StoreGone. */
  thole_code (*seal)(thole_writer writer, thole_sealed *sealed, thole_status *status);

  /* Ends a writer. One that was not sealed leaves none of its data behind; the step's folder, with its key, stays for the
   * other ranks, is listed as incomplete if none of them seals, and goes with retire. Keys are wiped.
   * Fails: nothing of its own. */
  thole_code (*end)(thole_writer writer, thole_status *status);

  /* Opens a committed checkpoint; `which` NULL is the newest. Owns: *reader is the caller's, for close.
   * Fails: THOLE_NOT_FOUND (CheckpointNone), StoreGone, THOLE_DATA_LOSS (CheckpointDamaged, CheckpointRolledBack),
   * CheckpointNewer, Key*. */
  thole_code (*open)(thole_core core, const thole_store *store, const thole_which *which, thole_reader *reader,
                     thole_status *status);

  /* What an open checkpoint holds, values included. Fails: nothing of its own. */
  thole_code (*describe)(thole_reader reader, thole_checkpoint_contents *contents, thole_buffer *room,
                         thole_status *status);

  /* Reads a box from whichever parts hold it, in row-major order, or a value. Only the chunks that hold it are read. On
   * failure the contents of `to` are zeroed.
   * Fails: THOLE_NOT_FOUND (ItemUnknown), THOLE_INVALID (ItemBad: box or size), THOLE_DATA_LOSS (CheckpointDamaged). */
  thole_code (*get)(thole_reader reader, const thole_box *box, thole_status *status);

  /* Ends a reader. Keys are wiped. Fails: nothing of its own. */
  thole_code (*close)(thole_reader reader, thole_status *status);

  /* All checkpoints of the run, also those that cannot be opened, each with the reason. Without a key (store->key NULL)
   * it says what the names and the clear prelude tell, and reports committed ones as unproven. Fails: StoreGone, Key*. */
  thole_code (*list)(thole_core core, const thole_store *store, thole_checkpoint_list *list, thole_buffer *room,
                     thole_status *status);

  /* Reads every byte of a checkpoint and checks every tag, digest and length. verified may be NULL.
   * Fails: as open; THOLE_DATA_LOSS with the part and the place in the sentence. */
  thole_code (*verify)(thole_core core, const thole_store *store, const thole_which *which, thole_verified *verified,
                       thole_status *status);

  /* Deletes all but the `keep` (>= 1) newest committed checkpoints, and what can no longer become one. Never deletes the
   * newest, nor what the attempt with the highest fence is writing; what a reader has open stays readable to it. *removed
   * may be NULL. Interrupted, it can be repeated. Fails: StoreReadOnly, StoreGone, Key*. */
  thole_code (*retire)(thole_core core, const thole_store *store, uint32_t keep, uint64_t *removed,
                       thole_status *status);
} thole_checkpoint_api;

#ifdef __cplusplus
}
#endif
#endif
