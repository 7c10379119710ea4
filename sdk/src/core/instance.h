// core/instance.h: what a thole_core handle stands for: the services, wired.
#pragma once

#include <memory>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "gang/engine.h"
#include "loader/plugins.h"
#include "metrics/registry.h"

namespace thole {

struct instance_options {
  log_sink log;
  std::string state;    // folder of the journal; empty: memory only
  std::string metrics;  // file; empty: memory only
};

// Each service takes its own lock; there is none over all, so that a slow one does not hold up the others.
struct instance {
  log_sink log;
  std::unique_ptr<gang::engine> gangs;
  std::unique_ptr<metrics::registry> metrics;
  std::unique_ptr<loader::plugins> plugins;

  static result<std::unique_ptr<instance>> open(const instance_options &options);
};

}  // namespace thole
