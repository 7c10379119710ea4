// metrics/reader.h: another process's metrics file, which may be written to at this moment, cut off at any instant, or
// forged. Read with pread and never mapped: a file that shrinks would be a SIGBUS.
#pragma once

#include <string>
#include <vector>

#include "base/id.h"
#include "base/status.h"
#include "metrics/definition.h"
#include "metrics/process.h"

namespace thole::metrics {

struct file_mark {
  process_mark process;
  id128 generation;
  uint64_t made_ns = 0;
  bool open = false;
};

// What a series says. Of a histogram `value` is the sum, and the buckets are not cumulative.
struct sample {
  double value = 0;
  std::vector<uint64_t> buckets;
};

struct file_series {
  uint32_t family = 0;
  std::vector<std::string> values;
  sample said;
};

struct file_content {
  file_mark mark;
  std::vector<definition> families;
  std::vector<file_series> series;
};

// MetricsFileMissing, MetricsFileBad.
result<file_mark> read_mark(const std::string &file);
result<file_content> read_content(const std::string &file);

// Of bytes in memory, as they stand.
result<file_content> parse(std::string_view bytes, const std::string &name);

}  // namespace thole::metrics
