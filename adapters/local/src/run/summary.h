// run/summary.h: what happened, for people and as data (docs/reference/cli.md has the schema).
#pragma once

#include <string>

#include "state/job_state.h"

namespace thole::local {

// A member and where it is placed. As text: "trainer 2 (rank 2) on desk: vGPU 10.0 GiB, share 0.25, of SIM-..."
json member_json(const member_state &m);
std::string member_text(const member_state &m);

json summary_json(const layout &l, const job_state &s, bool running);
std::string summary_text(const layout &l, const job_state &s, bool running, bool colour);

}  // namespace thole::local
