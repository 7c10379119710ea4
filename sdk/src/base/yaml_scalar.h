// base/yaml_scalar.h: what a plain scalar means.
#pragma once

#include <string_view>

#include "base/yaml.h"

namespace thole::yaml {

struct meaning {
  kind what = kind::string;
  bool quotable = false;
};

// Of a scalar without quotes: JSON's words and numbers; everything else is a string. `quotable` where YAML 1.1 readers
// (PyYAML, the one in kubectl) see a boolean, null, number or date in it, or another number than JSON does.
meaning of_plain(std::string_view text) noexcept;

}  // namespace thole::yaml
