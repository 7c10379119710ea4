/* A libnvidia-ml.so.1 that answers what FAKE_NVML says: "fail CALL CODE" fails that call, "mig" turns MIG on, "lost"
 * loses the second GPU. Two GPUs of 143771 MiB of which 629 are reserved, with two profiles. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int lives;

static const char *wish(void) {
  const char *w = getenv("FAKE_NVML");
  return w == NULL ? "" : w;
}
static nvmlReturn_t answer(const char *call) {
  char name[64] = "";
  int code = 0;
  if (sscanf(wish(), "fail %63s %d", name, &code) == 2 && strcmp(name, call) == 0) return (nvmlReturn_t)code;
  return NVML_SUCCESS;
}
static int index_of(nvmlDevice_t d) {
  return (int)((size_t)d - 1);
}

nvmlReturn_t nvmlInit_v2(void) {
  const nvmlReturn_t r = answer("init");
  lives += r == NVML_SUCCESS;
  return r;
}
nvmlReturn_t nvmlShutdown(void) {
  if (--lives < 0) abort(); /* once for each init that succeeded */
  return NVML_SUCCESS;
}
const char *nvmlErrorString(nvmlReturn_t r) {
  return r == NVML_ERROR_GPU_IS_LOST ? "GPU is lost" : "a fake error";
}
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *n) {
  *n = 2;
  return answer("count");
}
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *d) {
  *d = (nvmlDevice_t)(size_t)(i + 1);
  if (strcmp(wish(), "lost") == 0 && i == 1) return NVML_ERROR_GPU_IS_LOST;
  return answer("handle");
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *to, unsigned int size) {
  snprintf(to, size, "GPU-%08d-0000-0000-0000-000000000000", index_of(d));
  return answer("uuid");
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *to, unsigned int size) {
  (void)d;
  snprintf(to, size, "Fake H200");
  return answer("name");
}
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *m) {
  (void)d;
  if (m->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  m->total = 143771ull << 20;
  m->reserved = 629ull << 20;
  m->free = m->total - m->reserved;
  m->used = m->reserved;
  return answer("memory");
}
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *now, unsigned int *next) {
  (void)d;
  *now = *next = strcmp(wish(), "mig") == 0;
  return answer("mig");
}
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t d, unsigned int profile,
                                                  nvmlGpuInstanceProfileInfo_v2_t *info) {
  (void)d;
  if (info->version != nvmlGpuInstanceProfileInfo_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  if (profile != NVML_GPU_INSTANCE_PROFILE_1_SLICE && profile != NVML_GPU_INSTANCE_PROFILE_7_SLICE)
    return NVML_ERROR_NOT_SUPPORTED;
  const int whole = profile == NVML_GPU_INSTANCE_PROFILE_7_SLICE;
  info->id = whole ? 0 : 19;
  info->sliceCount = whole ? 7 : 1;
  info->instanceCount = whole ? 1 : 7;
  info->multiprocessorCount = whole ? 132 : 16;
  info->memorySizeMB = whole ? 143200 : 16384;
  strcpy(info->name, whole ? "MIG 7g.141gb" : "MIG 1g.18gb");
  return answer("profile");
}
nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t d, unsigned int id,
                                                           nvmlGpuInstancePlacement_t *to, unsigned int *count) {
  (void)d;
  const unsigned int have = id == 0 ? 1 : 7;
  if (to == NULL) {
    *count = have;
    return NVML_SUCCESS;
  }
  if (*count < have) return NVML_ERROR_INSUFFICIENT_SIZE;
  for (unsigned int i = 0; i < have; ++i) to[i] = (nvmlGpuInstancePlacement_t){i, id == 0 ? 8 : 1};
  *count = have;
  return answer("places");
}
