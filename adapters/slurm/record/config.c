#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "quantity.h"

static char *trimmed(char *text) {
  text += strspn(text, " \t");
  size_t size = strlen(text);
  while (size > 0 && strchr(" \t\r\n", text[size - 1])) text[--size] = 0;
  return text;
}

static int set_path(const char *value, char *path) {
  if (*value != '/' || strlen(value) >= longest_path) return -1;
  memcpy(path, value, strlen(value) + 1);
  return 0;
}

static int set(struct slurm_config *config, const char *name, const char *value, char *why, size_t size) {
  if (strcmp(name, "shard_memory") == 0) return parse_memory(value, &config->shard_mib, why, size);
  if (strcmp(name, "largest_gpu") == 0) return parse_memory(value, &config->largest_mib, why, size);
  snprintf(why, size, "%.40s wants an absolute path, and '%.100s' is none", name, value);
  if (strcmp(name, "state") == 0) return set_path(value, config->state);
  if (strcmp(name, "gpus") == 0) return set_path(value, config->gpus);
  if (strcmp(name, "library") == 0) return set_path(value, config->library);
  snprintf(why, size, "there is no '%.40s': shard_memory, largest_gpu, state, gpus and library are known", name);
  return -1;
}

static int read_line(char *line, struct slurm_config *config, char *why, size_t size) {
  char *text = trimmed(line);
  if (*text == 0 || *text == '#') return 0;
  char *equals = strchr(text, '=');
  if (equals == NULL) {
    snprintf(why, size, "'%.60s' is not of the form name = value", text);
    return -1;
  }
  *equals = 0;
  return set(config, trimmed(text), trimmed(equals + 1), why, size);
}

int read_config(const char *path, struct slurm_config *config, char *why, size_t size) {
  char line[longest_path + 64];
  char problem[longest_why];
  memset(config, 0, sizeof *config);
  strcpy(config->state, "/run/thole/slurm");
  strcpy(config->gpus, "/etc/slurm/thole-gpus");
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    snprintf(why, size, "%.200s cannot be read: %s", path, strerror(errno));
    return -1;
  }
  for (int number = 1; fgets(line, sizeof line, file); ++number)
    if (read_line(line, config, problem, sizeof problem) != 0) {
      fclose(file);
      snprintf(why, size, "%.120s:%d: %.300s", path, number, problem);
      return -1;
    }
  fclose(file);
  if (config->shard_mib == 0 || config->largest_mib < config->shard_mib) {
    snprintf(why, size, "%.200s: shard_memory and largest_gpu must be there, and the GPU be the larger one", path);
    return -1;
  }
  return 0;
}

int expand_node(const char *pattern, const char *node, char *path, size_t size) {
  size_t used = 0;
  for (; *pattern; ++pattern) {
    const int is_name = pattern[0] == '%' && pattern[1] == 'n';
    const size_t more = is_name ? strlen(node) : 1;
    if (used + more + 1 > size) return -1;
    memcpy(path + used, is_name ? node : pattern, more);
    used += more;
    pattern += is_name ? 1 : 0;
  }
  path[used] = 0;
  return 0;
}
