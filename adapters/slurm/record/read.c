#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quantity.h"
#include "record.h"

enum { most_record = 65536 };

/* A file that nobody but who writes records can have made. Returns its size, or -1. */
static ssize_t read_own(const char *folder, const char *name, char *text, size_t room) {
  char path[longest_path + 16];
  struct stat s;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  size_t used = 0;
  if (fstat(fd, &s) != 0 || s.st_uid != geteuid() || (s.st_mode & 022) != 0) {
    close(fd);
    errno = EPERM;
    return -1;
  }
  for (ssize_t n = 1; n != 0 && used < room;) {
    n = read(fd, text + used, room - used);
    if (n < 0 && errno != EINTR) {
      close(fd);
      return -1;
    }
    if (n > 0) used += (size_t)n;
  }
  close(fd);
  return (ssize_t)used;
}

static int is_whole(const char *text, size_t size) {
  char want[24];
  if (size < 32 || size >= most_record || strncmp(text, "thole-record 1\n", 15) != 0) return 0;
  snprintf(want, sizeof want, "checksum %08" PRIx32 "\n", crc32_of(text, size - 18));
  return memcmp(text + size - 18, want, 18) == 0;
}

void visible_devices(const struct known *known, uint32_t local, uint32_t locals, char *text, size_t size) {
  uint32_t first = 0;
  uint32_t end = known->count;
  size_t used = 0;
  if (locals > 0 && locals == known->tasks && local < locals && known->count % locals == 0) {
    first = local * (known->count / locals);
    end = first + known->count / locals;
  }
  text[0] = 0;
  for (uint32_t i = first; i < end; ++i) {
    const char *uuid = known->uuids[i];
    if (strncmp(uuid, "SIM-", 4) == 0 || strstr(text, uuid) || used + strlen(uuid) + 2 > size) continue;
    used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? "," : "", uuid);
  }
}

static int read_record(char *text, struct known *known) {
  char *rest = NULL;
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    if (strncmp(line, "device ", 7) != 0) continue;
    if (known->count == most_devices || sscanf(line + 7, "%95s", known->uuids[known->count]) != 1) return -1;
    ++known->count;
  }
  return 0;
}

static int read_job(char *text, struct known *known) {
  char *rest = NULL;
  int seen = 0;
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    if (strncmp(line, "attempt ", 8) == 0) seen += parse_number(line + 8, UINT32_MAX, &known->attempt) == 0;
    else if (strncmp(line, "tasks ", 6) == 0) seen += parse_number(line + 6, UINT32_MAX, &known->tasks) == 0;
    else if (strncmp(line, "total ", 6) == 0) seen += parse_number(line + 6, UINT64_MAX, &known->total_mib) == 0;
    else if (strncmp(line, "run ", 4) == 0 && strlen(line) == 40) seen += strcpy(known->run, line + 4) != NULL;
  }
  return seen == 4 ? 0 : -1;
}

int read_known(const char *state, uint32_t job, struct known *known, char *why, size_t size) {
  char text[most_record];
  memset(known, 0, sizeof *known);
  if (job_folder(state, job, known->folder, sizeof known->folder) != 0) return -1;
  ssize_t used = read_own(known->folder, "job", text, sizeof text - 1);
  if (used < 0 && errno == ENOENT) return 1;
  if (used > 0) {
    text[used] = 0;
    used = read_job(text, known) == 0 ? read_own(known->folder, "record", text, sizeof text - 1) : -1;
  }
  if (used > 0 && is_whole(text, (size_t)used)) {
    text[used] = 0;
    if (read_record(text, known) == 0) return 0;
  }
  snprintf(why, size, "the allocation record in %.200s is damaged, or not the node's own", known->folder);
  return -1;
}
