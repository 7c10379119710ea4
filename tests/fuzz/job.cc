// Job files: what is read is canonical, and canonical text is read again to the same bytes without a remark.
#include <cstdlib>

#include "model/document.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, std::size_t size) {
  using namespace thole::model;
  const document d = read_document({reinterpret_cast<const char *>(data), size}, "local");
  if (d.value.is_null() != (d.found.errors() > 0)) std::abort();
  if (d.value.is_null()) return 0;
  const std::string text = canonical_text(d.value);
  const document again = read_document(text, "");
  if (!again.found.all().empty() || canonical_text(again.value) != text) std::abort();
  return 0;
}
