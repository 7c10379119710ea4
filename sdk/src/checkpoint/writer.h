// checkpoint/writer.h: one rank's part of a checkpoint, and the commit by the rank that finds all parts present.
#pragma once

#include <unordered_set>

#include "checkpoint/history.h"

namespace thole::checkpoint {

struct save {
  uint64_t attempt = 0;
  uint64_t step = 0;
  uint32_t part = 0;
  uint32_t parts = 0;
  uint8_t chunk_log2 = default_chunk_log2;
};

struct sealed {
  bool committed = false;
  uint32_t missing = 0;
  uint64_t bytes = 0;
  uint64_t file_bytes = 0;
  int64_t duration_ns = 0;
  id128 checkpoint;
};

class writer {
 public:
  static result<std::unique_ptr<writer>> begin(target t, const save &s);
  ~writer();
  writer(const writer &) = delete;
  writer &operator=(const writer &) = delete;

  result<> put(const item_head &head, const box &where, octets data);
  result<sealed> seal();

 private:
  enum class state { open, published, broken };
  writer(target t, const save &s, key_tree run_keys)
      : target_(std::move(t)), save_(s), run_keys_(std::move(run_keys)) {}
  result<> open_part();
  result<> check_state() const;
  result<> append(const item_head &head, const box &where, octets data);
  result<> publish();
  result<uint32_t> count_missing();
  result<> commit();
  result<std::vector<manifest_item>> gather(manifest &m);
  header head_of(file_kind kind, uint32_t part) const;

  target target_;
  save save_;
  key_tree run_keys_;
  key_tree keys_;
  id128 checkpoint_;
  std::string folder_;
  std::string temporary_;
  std::unique_ptr<container_writer> file_;
  std::optional<gcm> content_;
  std::vector<part_item> items_;
  std::unordered_set<std::string> names_;
  container_identity identity_;
  state state_ = state::open;
  int64_t begun_ns_ = 0;
  int64_t duration_ns_ = 0;  // of begin to the first seal
};

}  // namespace thole::checkpoint
