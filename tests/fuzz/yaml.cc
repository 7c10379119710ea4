// The reader of YAML: any bytes give a tree or exactly one error with a place.
#include "base/yaml.h"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, std::size_t size) {
  thole::yaml::problems found;
  const auto root = thole::yaml::read({reinterpret_cast<const char *>(data), size}, found);
  if (root.has_value() != (found.errors() == 0)) std::abort();
  if (!root && found.all()[0].at.line == 0) std::abort();
  return 0;
}
