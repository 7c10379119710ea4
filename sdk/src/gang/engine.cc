#include "gang/engine.h"
namespace thole::gang {
result<std::unique_ptr<engine>> engine::open(const std::string &, const log_sink &) {
  return std::make_unique<engine>();
}
}  // namespace thole::gang
