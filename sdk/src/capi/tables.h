// capi/tables.h: one table a service, defined in the file of its name. NULL where this build does not have it.
#pragma once

#include <thole/core.h>

namespace thole {

const thole_core_api *core_table() noexcept;
// thole_core_api.key_new; defined in checkpoint.cc, which knows keys.
thole_code key_new(thole_core core, thole_str path, thole_status *status);

const thole_gang_api *gang_table() noexcept;
const thole_checkpoint_api *checkpoint_table() noexcept;
const thole_job_api *job_table() noexcept;
const thole_device_api *device_table() noexcept;
const thole_partition_api *partition_table() noexcept;
const thole_metrics_api *metrics_table() noexcept;
const thole_recovery_api *recovery_table() noexcept;

}  // namespace thole
