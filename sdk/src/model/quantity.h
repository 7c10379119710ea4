// model/quantity.h: sizes, times, cores and shares as people write them. Integers only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thole::model {

// The value, or a sentence that says what to write instead.
struct quantity {
  std::optional<int64_t> value;
  std::string sentence;
};

// Bytes. "10Gi" (Ki Mi Gi Ti Pi) and "10G" (k M G T P, of 1000). A unit is never guessed.
quantity parse_memory(std::string_view text);
// Milliseconds. "30s", "10m", "1h30m" (ms s m h d).
quantity parse_duration(std::string_view text);
// Thousandths of a core. "2", "500m", "0.5".
quantity parse_cpu(std::string_view text);
// Thousandths of a GPU's compute. "0.25", "1".
quantity parse_share(std::string_view text);

// The one way in which a value is written again: equal values, equal texts.
std::string memory_text(int64_t bytes);
std::string duration_text(int64_t milliseconds);
std::string cpu_text(int64_t milli);
std::string share_text(int64_t milli);

constexpr int64_t mebibyte = int64_t{1} << 20;

}  // namespace thole::model
