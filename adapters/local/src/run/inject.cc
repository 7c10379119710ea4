#include "run/inject.h"

#include <signal.h>

#include "base/text.h"

namespace thole::local {

result<injection> parse_injection(const std::string &text) {
  injection i;
  const std::size_t colon = text.find(':');
  const std::string what = text.substr(0, colon);
  bool good = colon != std::string::npos && (what == "kill" || what == "stop");
  i.signal = what == "stop" ? SIGSTOP : SIGKILL;
  bool has_rank = false;
  for (const std::string &pair : split(good ? std::string_view(text).substr(colon + 1) : "", ',')) {
    const std::size_t equals = pair.find('=');
    const std::string name = pair.substr(0, equals);
    const auto value =
        equals == std::string::npos ? std::nullopt : parse_u64(std::string_view(pair).substr(equals + 1));
    if (!value) {
      good = false;
    } else if (name == "rank" && *value <= UINT32_MAX) {
      i.rank = static_cast<uint32_t>(*value);
      has_rank = true;
    } else if (name == "step") {
      i.step = *value;
    } else if (name == "seal" && *value > 0) {
      i.seal = *value;
    } else {
      good = false;
    }
  }
  if (!good || !has_rank || i.step.has_value() == i.seal.has_value())
    return fail(reason::ArgumentBad,
                "--inject {} is not understood: write kill:rank=2,step=60 or stop:rank=1,step=30 or kill:rank=0,seal=2",
                text);
  return i;
}

}  // namespace thole::local
