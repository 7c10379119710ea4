// run/summary.h: what happened, for people and as data (docs/reference/cli.md has the schema).
#pragma once

#include <string>

#include "state/job_state.h"

namespace thole::local {

json summary_json(const layout &l, const job_state &s, bool running);
std::string summary_text(const layout &l, const job_state &s, bool running, bool colour);

}  // namespace thole::local
