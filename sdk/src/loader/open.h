// loader/open.h: mapping the bytes that were checked, and no others.
#pragma once

#include <thole/plugin.h>

#include <string>

#include "base/status.h"
#include "loader/trust.h"

namespace thole::loader {

// Answers the entry of a library with these bytes. Its code stays mapped for as long as the process lives, because some
// of it may be on a stack; bytes that were mapped before, by whatever core, are not mapped again.
//
// The bytes are copied into a sealed memory file, so what runs is what was read, whoever writes to the file on disk
// meanwhile. Where the system forbids to execute memory files (vm.memfd_noexec=2), the open file itself is mapped, but
// only if nobody but root can change it.
//
// The library's constructors run here: everything that can refuse it comes before. `digest` is that of the bytes;
// `name` is for the sentence and for debuggers (/proc/PID/maps shows "memfd:NAME"). Fails: PluginLoadFailed,
// PluginSymbolMissing.
result<thole_plugin_entry_v1_fn> map_library(const trusted_file &file, const std::string &digest,
                                             const std::string &name);

}  // namespace thole::loader
