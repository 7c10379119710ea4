/* thole/base.h: the words of the contract: codes, strings, lists, ids, buffers.
 *
 * The headers need <stddef.h> and <stdint.h>, and compile as C99 and later and as C++11 and later.
 *
 * Three kinds of struct exist in the contract, and no fourth:
 *   frozen   the structs of this header, and others that say so; their layout is for ever.
 *   sized    `uint64_t struct_size` comes first. Fields are only ever appended, in units of 8 bytes, and zero is always
 *            the right default of an appended field. sizeof and struct_size are multiples of 8, without padding. A
 *            `reserved` that is not zero is ArgumentBad. The callee reads and writes no byte beyond struct_size.
 *   opaque   handles (core.h, checkpoint.h): 64 bits with a generation, so that a stale one is told, not followed.
 *
 * Who sets struct_size: of a struct that the caller passes, in or out, the caller, to its own sizeof. An out-struct is
 * zeroed by the caller; the callee fills what both know, leaves the rest alone, and on failure leaves all of it alone,
 * but for what a slot's comment says. Outputs are checked before anything is done, and do not overlap inputs.
 * Of a struct that the callee lays out in a thole_buffer, the callee, to its own sizeof: a reader that may be newer asks
 * THOLE_HAS before each later field.
 *
 * Any call may also answer ArgumentMissing, ArgumentBad, TextNotUtf8, OverBound, OutOfMemory or Defect; one that takes a
 * handle HandleStale or Forked; one that takes a thole_buffer BufferTooSmall. "Fails:" names what is particular.
 *
 * Enums are int32_t. The callee refuses a value that it does not know; a reader of an answer accepts it.
 * Bounds that no header names: texts that are paths 4096 bytes, a list's stride and a struct_size 65536, numbers of MiB
 * and of thousandths 2^40.
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

/* What a call answers, in classes that a program can act on. A reader must accept a value that it does not know and
 * treat it as THOLE_INTERNAL. The stable detail is thole_status.reason. */
typedef int32_t thole_code;
enum {
  THOLE_OK = 0,
  THOLE_INVALID = 3,       /* an argument is wrong, whatever the state; repeating the call will not help              */
  THOLE_TIMEOUT = 4,       /* a deadline has passed                                                                    */
  THOLE_NOT_FOUND = 5,
  THOLE_EXISTS = 6,        /* the id is taken by something else                                                       */
  THOLE_DENIED = 7,        /* the operating system or a policy refuses                                                */
  THOLE_EXHAUSTED = 8,     /* memory, disk space or a stated bound                                                    */
  THOLE_REFUSED = 9,       /* the state does not allow it until something else is done                                */
  THOLE_CONFLICT = 10,     /* the state has moved on: read it, and plan again                                         */
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

/* An array whose element i lies at (const char *)data + i * stride. The stride lets elements grow. data and stride are
 * multiples of the element's alignment, which is 8 for all but the frozen thole_mig_place (4), and no element's
 * struct_size is beyond the stride; else, and for data NULL with count > 0, the answer is ArgumentBad. {NULL, 0, 0} is
 * empty. */
typedef struct thole_list {
  const void *data;
  uint64_t count;
  uint64_t stride; /* bytes */
} thole_list;

/* 128 bits that name something durable: a gang, a run, a checkpoint. The caller chooses them, at random or by hashing
 * its own name. All zero means "none". As a UUID is written: hi is its first 16 hexadecimal digits read as a number, lo
 * the last 16. No byte order in memory is meant. */
typedef struct thole_id {
  uint64_t hi;
  uint64_t lo;
} thole_id;

/* Room that the caller lends for an answer of variable size. `data` is aligned to 8 bytes. The callee lays strings and
 * lists out inside [data, data + size) and sets `used`; they live as long as the caller keeps that memory as it is, so
 * there is nothing to free and nothing of the callee's to hold. If size is too small the answer is THOLE_TOO_SMALL,
 * `used` is the size that is needed, and the call has changed no state; the state may grow until the next call, so loop.
 * {NULL, 0, 0} asks for the size. Do not move or copy the memory: the answer points into it. (Go: C.malloc.) */
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
#define THOLE_STR(literal) (thole_str{"" literal, sizeof(literal) - 1})
#else
#define THOLE_STR(literal) ((thole_str){"" literal, sizeof(literal) - 1})
#endif

/* The same where C wants a constant: in the initializer of a static table. */
#define THOLE_STR_INIT(literal) {"" literal, sizeof(literal) - 1}

#define THOLE_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
}
#endif
#endif
