// Allocation records: there is one way to write each, so what is read is written again to the same bytes.
#include "partition/record.h"

#include <cstdio>
#include <cstdlib>

namespace {

void check(std::string_view text) {
  const auto known = thole::partition::read(text);
  if (!known) return;
  const auto again = thole::partition::write(*known);
  if (!again || *again != text) std::abort();
}

// With a checksum that is right, or nothing behind it would ever be reached.
std::string sealed(std::string_view body) {
  uint32_t crc = ~0u;
  for (const char c : body) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
  }
  char line[32];
  std::snprintf(line, sizeof line, "checksum %08x\n", ~crc);
  return std::string(body) + line;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  check(text);
  check(sealed(text));
  if (size > 18) check(sealed(text.substr(0, size - 18)));
  return 0;
}
