// checkpoint/fence.h: publishing that an attempt has begun.
#pragma once

#include "checkpoint/history.h"

namespace thole::checkpoint {

// What the attempt goes on from; its checkpoint is none if there is nothing.
result<fence_record> fence(target &t, uint64_t attempt);

}  // namespace thole::checkpoint
