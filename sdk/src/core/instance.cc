#include "core/instance.h"

namespace thole {

result<std::unique_ptr<instance>> instance::open(const instance_options &options) {
  auto core = std::make_unique<instance>();
  core->log = options.log;
  THOLE_LET(core->gangs, gang::engine::open(options.state, options.log));
  THOLE_LET(core->metrics, metrics::registry::open(options.metrics));
  core->plugins = std::make_unique<loader::plugins>(options.log);
  return core;
}

}  // namespace thole
