/* thole/status.h: why a call did not succeed.
 *
 * Every call of the contract returns a thole_code and takes an optional `thole_status *` as its last argument. The
 * status belongs to the caller, has a fixed size and is filled without an allocation, so it can be had when memory is
 * out and lies on a C stack, in a Go struct or in a ctypes object alike:
 *
 *     thole_status s = {sizeof s};
 *     if (root->gang->plan(core, &request, &plan, &room, &s) != THOLE_OK)
 *       printf("%s: %s\n", s.reason, s.message);
 *
 * Only struct_size must be set. The callee writes on failure only, and never beyond struct_size.
 */
#ifndef THOLE_STATUS_H
#define THOLE_STATUS_H

#include <thole/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bits of thole_status.flags. */
#define THOLE_STATUS_RETRY 1u     /* the same call may succeed later                      */
#define THOLE_STATUS_TRUNCATED 2u /* `message`, or an older struct's last text, was cut    */
#define THOLE_STATUS_PLUGIN 4u    /* a plugin, not the core, has said so                  */

typedef struct thole_status {
  uint64_t struct_size; /* sized */
  thole_code code;      /* what the call returned */
  uint32_t flags;       /* THOLE_STATUS_* */
  int32_t os_errno;     /* errno of the system call that failed, or 0 */
  int32_t device_code;  /* nvmlReturn_t or CUresult of the call that failed, or 0 */
  /* A name out of <thole/reasons.h>, for programs: CamelCase, terminated, legal as a Kubernetes condition reason. A
   * reason once released keeps its name and its meaning. */
  char reason[48];
  /* One sentence for people that says what to do. Terminated UTF-8 without control characters. May change. */
  char message[400];
} thole_status;

#ifdef __cplusplus
}
#endif
#endif
