#pragma once
#include <memory>
#include <string>
#include "base/log.h"
#include "base/status.h"
namespace thole::gang {
class engine {
 public:
  static result<std::unique_ptr<engine>> open(const std::string &state_folder, const log_sink &log);
};
}  // namespace thole::gang
