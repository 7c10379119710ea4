// partition/record.h: the node's file about what a member was given (docs/reference/allocation-record.md).
//
// Text, because small C programs without a library and people read it; strict, because it comes from a folder that may
// be damaged: what write() does not produce, read() refuses.
#pragma once

#include <thole/draft/partition.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/id.h"
#include "base/status.h"

namespace thole::partition {

enum class backend : int32_t {
  none = THOLE_BACKEND_NONE,
  simulated = THOLE_BACKEND_SIMULATED,
  exclusive = THOLE_BACKEND_EXCLUSIVE
};

struct record_device {
  std::string uuid;
  thole_device_kind kind = THOLE_KIND_NONE;
  uint32_t share_milli = 0;
  uint64_t memory_mib = 0;
  std::string mig_profile;  // of a MIG instance only, and so is its place
  thole_mig_place mig{};
  backend held_by = backend::none;
};

struct record {
  id128 gang;
  uint64_t attempt = 0;
  uint64_t generation = 0;
  std::string node;
  std::string role;
  uint32_t member = 0;
  std::vector<record_device> devices;
};

constexpr uint32_t record_version = 1;
constexpr std::size_t most_record = 65536;  // bytes
constexpr std::size_t most_devices = 256;   // of a record
constexpr std::size_t most_name = THOLE_MAX_NAME;
constexpr std::size_t most_uuid = 95;  // so that a reader in C has room enough with 96 bytes
constexpr std::size_t most_profile = 31;
constexpr uint64_t most_memory_mib = uint64_t{1} << 40;

// The bytes of the file. Fails with PlanBad where a value has no place in the format.
result<std::string> write(const record &r);

// RecordDamaged, RecordNewer.
result<record> read(std::string_view text);

std::string_view name_of(backend b) noexcept;

}  // namespace thole::partition
