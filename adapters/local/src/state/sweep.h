// state/sweep.h: what controllers that were killed have left behind: processes, and gangs in the ledger.
#pragma once

#include "core/ledger.h"
#include "state/job_state.h"

namespace thole::local {

// Ends all processes of a job whose controller is dead; the caller holds the job's lock. Answers how many there were.
// They are known by number and start time, and by the run's id in their environment; nothing else is touched.
std::size_t end_orphans(const job_state &s);

// For every job without a controller: ends its processes, and gives back its gang. The caller is inside the ledger's
// gate.
result<> sweep(const layout &l, ledger &g);

}  // namespace thole::local
