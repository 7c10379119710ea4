#pragma once
#include <chrono>
#include <string>
#include <vector>
#include "base/log.h"
#include "base/status.h"
namespace thole::loader {
struct plugin_info {
  std::string id, kind, version, manifest, reason, message;
};
class plugins {
 public:
  explicit plugins(const log_sink &) {}
  result<> load(const std::string &folder);
  std::vector<plugin_info> list() const;
  result<> stop(std::chrono::nanoseconds each);
};
}  // namespace thole::loader
