#include "loader/plugins.h"
namespace thole::loader {
result<> plugins::load(const std::string &) {
  return {};
}
std::vector<plugin_info> plugins::list() const {
  return {};
}
result<> plugins::stop(std::chrono::nanoseconds) {
  return {};
}
}  // namespace thole::loader
