// Quantities and pools: a quantity that is read is written and read again the same; one that is not has a sentence.
#include <cstdlib>

#include "model/document.h"
#include "model/pool.h"
#include "model/quantity.h"

namespace {
using namespace thole::model;

void check(std::string_view text, quantity (*parse)(std::string_view), std::string (*write)(int64_t)) {
  const quantity q = parse(text);
  if (q.value.has_value() == !q.sentence.empty()) std::abort();
  if (q.value && parse(write(*q.value)).value != q.value) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  if (size < 64) {
    check(text, parse_memory, memory_text);
    check(text, parse_duration, duration_text);
    check(text, parse_cpu, cpu_text);
    check(text, parse_share, share_text);
  }
  const std::string file = "apiVersion: v1\nkind: NodePool\nmetadata: {name: a}\nspec:\n  " + std::string(text);
  const document d = read_document(file, "local");
  if (d.value.is_null()) return 0;
  const std::string canonical = canonical_text(d.value);
  if (canonical_text(read_document(canonical, "").value) != canonical) std::abort();
  return 0;
}
