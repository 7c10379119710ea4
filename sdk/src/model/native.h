// model/native.h: what a platform's native block may not say, because the job says it.
#pragma once

#include <string_view>

#include "model/schema.h"

namespace thole::model {

bool is_environment_name(std::string_view name) noexcept;
// RANK, WORLD_SIZE, THOLE_...: what every rank finds.
bool is_own_variable(std::string_view name) noexcept;

// Refuses with NativeOverrides; the sentence names the field of the job.
void check_native(const yaml::node &platforms, const reading &in);

}  // namespace thole::model
