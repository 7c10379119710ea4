// checkpoint/reader.h: an open checkpoint.
#pragma once

#include "checkpoint/history.h"

namespace thole::checkpoint {

struct which {
  id128 checkpoint;              // none: by step
  std::optional<uint64_t> step;  // none: the newest
};

struct verified {
  uint32_t parts = 0;
  uint64_t chunks = 0;
  uint64_t bytes = 0;
};

class reader {
 public:
  static result<std::unique_ptr<reader>> open(target t, const which &w);

  const committed &what() const noexcept { return found_; }
  bool fresh() const noexcept { return fresh_; }
  std::string place() const { return target_.files->place(found_.folder); }

  // Rows [first, first + rows) of a tensor, or with `rows` 1 the one element of a tensor without dimensions.
  result<> get_rows(const manifest_item &item, uint64_t first, uint64_t rows, octets_out to);
  result<> get_value(const manifest_item &item, octets_out to);
  result<verified> verify();

 private:
  reader(target t, committed found, bool fresh) : target_(std::move(t)), found_(std::move(found)), fresh_(fresh) {}
  result<container_reader *> part(uint32_t index);
  result<> check_presence();
  result<> read_segment(const manifest_item &item, const segment &s, uint64_t first, uint64_t rows, octets_out to);

  target target_;
  committed found_;
  bool fresh_;
  std::vector<std::unique_ptr<container_reader>> parts_;
  std::vector<std::unique_ptr<in_file>> files_;  // not yet used; kept so that a retired checkpoint stays readable
};

}  // namespace thole::checkpoint
