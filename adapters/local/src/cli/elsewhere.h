// cli/elsewhere.h: `--on PLATFORM`, and `thole ray`, for platforms that have a program of their own.
#pragma once

#include <optional>

namespace thole::local {

// With `--on local`, or without it, nothing; `thole ray COMMAND` is `thole --on ray COMMAND`. Otherwise becomes
// `thole-PLATFORM` with the other arguments, found beside this command, in the installed libexec folder or in PATH;
// comes back only with the exit code of a failure.
std::optional<int> go_elsewhere(int argc, char **argv);

}  // namespace thole::local
