#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quantity.h"
#include "record.h"

enum { most_record = 65536 };

uint32_t crc32_of(const void *bytes, size_t size) {
  const unsigned char *at = bytes;
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < size; ++i) {
    crc ^= at[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return crc ^ 0xFFFFFFFF;
}

/* Two FNV-1a of 64 bits with different beginnings; version 8 is "made by somebody's own rule". */
void derive_run(const char *base, uint32_t number, char run[37]) {
  char text[64];
  const int size = snprintf(text, sizeof text, "%.40s/%" PRIu32, base, number);
  uint64_t half[2] = {0xcbf29ce484222325ull, 0x84222325cbf29ce4ull};
  for (int h = 0; h < 2; ++h)
    for (int i = 0; i < size; ++i) half[h] = (half[h] ^ (unsigned char)text[i]) * 0x100000001b3ull;
  half[0] = (half[0] & ~0xF000ull) | 0x8000;
  half[1] = (half[1] & ~(3ull << 62)) | 2ull << 62;
  snprintf(run, 37, "%08" PRIx32 "-%04x-%04x-%04x-%04x%08" PRIx32, (uint32_t)(half[0] >> 32),
           (unsigned)(half[0] >> 16 & 0xFFFF), (unsigned)(half[0] & 0xFFFF), (unsigned)(half[1] >> 48),
           (unsigned)(half[1] >> 32 & 0xFFFF), (uint32_t)half[1]);
}

int job_folder(const char *state, uint32_t job, char *path, size_t size) {
  const int used = snprintf(path, size, "%s/%" PRIu32, state, job);
  return used > 0 && (size_t)used < size ? 0 : -1;
}

int find_gpu(const char *file, uint64_t index, struct node_gpu *gpu, char *why, size_t size) {
  char line[256];
  FILE *in = fopen(file, "re");
  if (in == NULL) {
    snprintf(why, size, "%.200s cannot be read: %s; it lists this node's GPUs (thole-slurm gpus > FILE)", file,
             strerror(errno));
    return -1;
  }
  int found = 0;
  while (!found && fgets(line, sizeof line, in)) {
    char number[24];
    char memory[24];
    uint64_t value = 0;
    if (sscanf(line, "%23s %95s %23s", number, gpu->uuid, memory) != 3 || number[0] == '#') continue;
    found = parse_number(number, UINT32_MAX, &value) == 0 && value == index &&
            parse_number(memory, UINT32_MAX, &gpu->memory_mib) == 0;
  }
  fclose(in);
  if (found) return 0;
  snprintf(why, size, "%.200s does not list GPU %" PRIu64 ": write it anew (thole-slurm gpus > FILE)", file, index);
  return -1;
}

/* --- Folders. Root works in a folder that is partly a user's: no name is followed, everything goes by descriptor. ----
 */

static int remove_below(int folder, const char *name, int depth) {
  if (unlinkat(folder, name, 0) == 0 || errno == ENOENT) return 0;
  if (depth > 16) return -1;
  const int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  DIR *dir = fdopendir(fd);
  if (dir == NULL) {
    close(fd);
    return -1;
  }
  int failed = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      failed |= remove_below(dirfd(dir), entry->d_name, depth + 1);
  closedir(dir);
  return unlinkat(folder, name, AT_REMOVEDIR) != 0 && errno != ENOENT ? -1 : failed;
}

static int make_state(const char *state) {
  char path[longest_path];
  const int used = snprintf(path, sizeof path, "%s", state);
  if (used < 0 || (size_t)used >= sizeof path) return -1;
  for (char *at = path + 1; *at; ++at)
    if (*at == '/') {
      *at = 0;
      if (mkdir(path, 0755) != 0 && errno != EEXIST) return -1;
      *at = '/';
    }
  return mkdir(path, 0755) != 0 && errno != EEXIST ? -1 : 0;
}

static int open_state(const char *state) {
  const int fd = open(state, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  struct stat s;
  if (fd < 0) return -1;
  if (fstat(fd, &s) == 0 && s.st_uid == geteuid() && (s.st_mode & 022) == 0) return fd;
  close(fd);
  errno = EPERM; /* others may write there */
  return -1;
}

static int write_file(int folder, const char *name, const char *text, size_t size) {
  const int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
  if (fd < 0) return -1;
  size_t done = 0;
  while (done < size) {
    const ssize_t n = write(fd, text + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += (size_t)n;
  }
  const int failed = done < size || fchmod(fd, 0444) != 0;
  return close(fd) != 0 || failed ? -1 : 0;
}

/* --- Texts. ------------------------------------------------------------------------------------------------------ */

struct text {
  char bytes[most_record];
  size_t used;
  int full;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *out, const char *format, ...) {
  va_list list;
  va_start(list, format);
  const int n = vsnprintf(out->bytes + out->used, sizeof out->bytes - out->used, format, list);
  va_end(list);
  if (n < 0 || (size_t)n >= sizeof out->bytes - out->used) out->full = 1;
  else out->used += (size_t)n;
}

static const char *backend_of(const struct given_device *d) {
  if (strncmp(d->uuid, "SIM-", 4) == 0) return "simulated";
  return d->whole ? "exclusive" : "none";
}

static void record_text(const struct given *given, struct text *out) {
  add(out, "thole-record 1\ngang %s\nattempt %" PRIu64 "\ngeneration %" PRIu64 "\n", given->run, given->attempt,
      given->attempt);
  add(out, "node %s\nrole job\nmember %" PRIu32 "\n", given->node, given->member);
  for (uint32_t i = 0; i < given->count; ++i) {
    const struct given_device *d = &given->devices[i];
    add(out, "device %s %s %" PRIu64 " %" PRIu32 " %s - 0 0\n", d->uuid, d->whole ? "whole" : "vgpu", d->memory_mib,
        d->share_milli, backend_of(d));
  }
  add(out, "checksum %08" PRIx32 "\n", crc32_of(out->bytes, out->used));
}

static void job_text(const struct given *given, struct text *out) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < given->count; ++i) total += given->devices[i].memory_mib;
  add(out, "attempt %" PRIu64 "\nrun %s\ntasks %" PRIu64 "\ntotal %" PRIu64 "\n", given->attempt, given->run,
      given->tasks, total);
}

/* --- The folder of a job. ---------------------------------------------------------------------------------------- */

static int write_files(int folder, const struct given *given) {
  struct text *out = calloc(1, sizeof *out);
  if (out == NULL) return -1;
  record_text(given, out);
  int failed = out->full || write_file(folder, "record", out->bytes, out->used) != 0;
  memset(out, 0, sizeof *out);
  job_text(given, out);
  failed = failed || write_file(folder, "job", out->bytes, out->used) != 0;
  free(out);
  /* Not for root in a test without privilege, where everything is one user's. */
  failed = failed || mkdirat(folder, "metrics", 0700) != 0 ||
           (geteuid() == 0 && fchownat(folder, "metrics", given->uid, given->gid, AT_SYMLINK_NOFOLLOW) != 0);
  return failed ? -1 : 0;
}

int write_given(const char *state, const struct given *given, char *why, size_t size) {
  char name[24];
  char fresh[32];
  snprintf(name, sizeof name, "%" PRIu32, given->job);
  snprintf(fresh, sizeof fresh, ".new-%" PRIu32, given->job);
  errno = 0;
  const int at = make_state(state) == 0 ? open_state(state) : -1;
  int failed = at < 0 || remove_below(at, name, 0) != 0 || remove_below(at, fresh, 0) != 0;
  failed = failed || mkdirat(at, fresh, 0755) != 0;
  const int folder = failed ? -1 : openat(at, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  /* The folder gets its name when all is in it: a prolog that is killed leaves nothing that a task would read. */
  failed =
      folder < 0 || fchmod(folder, 0755) != 0 || write_files(folder, given) != 0 || renameat(at, fresh, at, name) != 0;
  if (failed) snprintf(why, size, "the allocation record cannot be written below %.200s: %s", state, strerror(errno));
  if (failed && at >= 0) remove_below(at, fresh, 0);
  if (folder >= 0) close(folder);
  if (at >= 0) close(at);
  return failed ? -1 : 0;
}

int remove_given(const char *state, uint32_t job, char *why, size_t size) {
  char name[24];
  char fresh[32];
  snprintf(name, sizeof name, "%" PRIu32, job);
  snprintf(fresh, sizeof fresh, ".new-%" PRIu32, job);
  const int at = open_state(state);
  if (at < 0 && errno == ENOENT) return 0;
  const int failed = at < 0 || remove_below(at, fresh, 0) != 0 || remove_below(at, name, 0) != 0;
  if (failed) snprintf(why, size, "%.200s/%s cannot be removed: %s", state, name, strerror(errno));
  if (at >= 0) close(at);
  return failed ? -1 : 0;
}
