/* thole/base.h: the words of the contract: codes, strings, lists, ids, buffers.
 *
 * Everything here is frozen: no struct of this header ever changes its layout.
 * The headers need <stddef.h> and <stdint.h>, and compile as C99 and later and as C++11 and later.
 *
 * Three kinds of struct exist in the contract, and no fourth:
 *   frozen   the structs of this header; their layout is for ever.
 *   sized    `uint64_t struct_size` comes first; the one who allocates the struct sets it to sizeof. Fields are only
 *            ever appended, and zero is always the right default of an appended field. The callee reads and writes
 *            no byte beyond struct_size. An element of a thole_list that may grow is sized as well.
 *   opaque   handles (core.h, checkpoint.h): 64 bits with a generation, so that a stale one is told, not followed.
 *
 * Platform: 64-bit little-endian Linux.   Since 0.1 unless said otherwise.
 */
#ifndef THOLE_BASE_H
#define THOLE_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the contract that these headers describe. A major counts breaks; it is 0 until 1.0 is declared, and
 * until then each break is a line in abi/HISTORY.yaml. A minor counts appended slots and fields. */
#define THOLE_ABI_MAJOR 0u
#define THOLE_ABI_MINOR 1u

/* What a call answers. Values up to 16 mean what they mean in gRPC; those from 64 on are ours. A reader must accept a
 * value that it does not know and treat it as THOLE_INTERNAL. The stable detail is thole_status.reason. */
typedef int32_t thole_code;
enum {
  THOLE_OK = 0,
  THOLE_INVALID = 3,       /* an argument is wrong, whatever the state; repeating the call will not help              */
  THOLE_TIMEOUT = 4,       /* the deadline that the caller gave has passed                                            */
  THOLE_NOT_FOUND = 5,
  THOLE_EXISTS = 6,        /* the id is taken by something else                                                       */
  THOLE_DENIED = 7,        /* the operating system or a policy refuses                                                */
  THOLE_EXHAUSTED = 8,     /* memory, disk space or a stated bound                                                    */
  THOLE_CONFLICT = 9,      /* the state has moved on: plan again                                                      */
  THOLE_ABORTED = 10,
  THOLE_UNSUPPORTED = 12,  /* this build or this plugin does not have it                                              */
  THOLE_INTERNAL = 13,     /* a defect in Thole or in a plugin                                                        */
  THOLE_UNAVAILABLE = 14,  /* for the moment; repeating the call may help                                             */
  THOLE_DATA_LOSS = 15,    /* stored bytes are damaged, forged or gone                                                */
  THOLE_STALE = 64,        /* a handle that is closed, foreign or of another kind                                     */
  THOLE_FORKED = 65,       /* this process was forked after the core was opened; open the core again                  */
  THOLE_GONE = 66,         /* stopped, and will not come back                                                         */
  THOLE_FENCED = 67,       /* a newer attempt has taken over                                                          */
  THOLE_NO_FIT = 68,       /* the request cannot be placed on what there is                                           */
  THOLE_TOO_SMALL = 69     /* the caller's buffer is too small; thole_buffer.used says how many bytes are needed      */
};

/* UTF-8 text that is not necessarily terminated. Borrowed for the call unless said otherwise. {NULL, 0} is empty. */
typedef struct thole_str {
  const char *data;
  uint64_t len; /* bytes */
} thole_str;

/* Bytes that the callee reads. Borrowed for the call. */
typedef struct thole_bytes {
  const void *data;
  uint64_t len; /* bytes */
} thole_bytes;

/* An array whose element i lies at (const char *)data + i * stride. The stride lets elements grow: it is at least the
 * struct_size of every element (for frozen elements: at least their sizeof). {NULL, 0, 0} is empty. */
typedef struct thole_list {
  const void *data;
  uint64_t count;
  uint64_t stride; /* bytes */
} thole_list;

/* 128 bits that name something durable: a gang, a run, a checkpoint. The caller chooses them, at random or by hashing
 * its own name. All zero means "none". `hi` holds bytes 0..7 of the UUID, `lo` bytes 8..15, both big-endian. */
typedef struct thole_id {
  uint64_t hi;
  uint64_t lo;
} thole_id;

/* Room that the caller lends for an answer of variable size. `data` is aligned to 8 bytes. The callee lays strings and
 * lists out inside [data, data + size) and sets `used`; they live as long as the caller keeps that memory as it is, so
 * there is nothing to free and nothing of the callee's to hold. If size is too small the answer is THOLE_TOO_SMALL,
 * `used` is the size that is needed, and the call has changed no state. {NULL, 0, 0} asks for the size. */
typedef struct thole_buffer {
  void *data;
  uint64_t size; /* bytes lent */
  uint64_t used; /* bytes laid out, or needed */
} thole_buffer;

/* True if the struct that `p` points to was compiled with field `f`. */
#define THOLE_END(T, f) (offsetof(T, f) + sizeof(((T *)0)->f))
#define THOLE_HAS(p, T, f) ((p)->struct_size >= THOLE_END(T, f))

/* Element i of a thole_list of T, and a thole_str out of a literal. */
#define THOLE_AT(list, T, i) \
  ((const T *)(const void *)((const char *)(list).data + (uint64_t)(i) * (list).stride))
#ifdef __cplusplus
#define THOLE_STR(literal) (thole_str{literal, sizeof(literal) - 1})
#else
#define THOLE_STR(literal) ((thole_str){literal, sizeof(literal) - 1})
#endif

#define THOLE_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
}
#endif
#endif
