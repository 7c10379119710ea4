#pragma once
#include <memory>
#include <string>
#include "base/status.h"
namespace thole::metrics {
class registry {
 public:
  static result<std::unique_ptr<registry>> open(const std::string &file);
};
}  // namespace thole::metrics
