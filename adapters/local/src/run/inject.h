// run/inject.h: faults that a person asks for, to see what happens then.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/problem.h"

namespace thole::local {

struct injection {
  int signal = 0;  // SIGKILL, or SIGSTOP for a hang
  uint32_t rank = 0;
  std::optional<uint64_t> step;  // when the rank says that so many train steps are done
  std::optional<uint64_t> seal;  // when it says for the n-th time that it begins a seal
  int64_t done_ns = 0;           // when the signal was sent
};

// "kill:rank=2,step=60", "stop:rank=1,step=30", "kill:rank=0,seal=2"
result<injection> parse_injection(const std::string &text);

}  // namespace thole::local
