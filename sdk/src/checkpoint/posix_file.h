// checkpoint/posix_file.h: a file of a store that is a folder of a file system.
#pragma once

#include "base/file.h"
#include "checkpoint/store.h"

namespace thole::checkpoint {

// The reason for an errno of a store.
tl::unexpected<error> refused(int e, std::string_view what, std::string_view path) noexcept;

std::unique_ptr<out_file> posix_out(unique_fd fd, std::string path);
std::unique_ptr<in_file> posix_in(unique_fd fd, std::string path, uint64_t size);

}  // namespace thole::checkpoint
