// capi/tables.h: one table a service, defined in the file of its name; constants, so that the root is one, too.
#pragma once

#include <thole/core.h>

namespace thole {

extern const thole_core_api core_table;
// thole_core_api.key_new; defined in checkpoint.cc, which knows keys.
thole_code key_new(thole_core core, thole_str path, thole_status *status);

// What a core leaves behind when it is closed: its writers and readers are ended. Defined in checkpoint.cc.
void end_handles_of(thole_core core) noexcept;

extern const thole_gang_api gang_table;
extern const thole_checkpoint_api checkpoint_table;
extern const thole_job_api job_table;
extern const thole_device_api device_table;
extern const thole_partition_api partition_table;
extern const thole_metrics_api metrics_table;
extern const thole_recovery_api recovery_table;

}  // namespace thole
