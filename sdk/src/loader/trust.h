// loader/trust.h: which folders and files only their owner may write, and their bytes, read once.
//
// A plugin runs with all rights of its host, so whoever can write to its files can do what the host can. Trusted is
// what root or the effective user owns and nobody else may write: the file, its folder, and every folder above it
// (there a sticky folder such as /tmp will do, because others cannot replace what is not theirs in it). Access lists
// show in the group's bits.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"

namespace thole::loader {

// A folder that has passed, held open: later names are looked up in this very folder, whatever the path says by then.
struct trusted_folder {
  unique_fd fd;
  std::string path;  // without symbolic links
};

// Fails: PluginFolderMissing, PluginFolderNotPrivate.
result<trusted_folder> open_trusted_folder(const std::string &path);

// The names in it that end in `.yaml` and do not begin with a dot, in the order of their bytes. Fails: OverBound.
result<std::vector<std::string>> manifest_names(const trusted_folder &folder);

// A file of the folder that has passed, open, with its bytes. `unchangeable` tells that nobody but root can change what
// the descriptor shows: root owns it, or its file system is mounted read-only.
struct trusted_file {
  unique_fd fd;
  std::string bytes;
  bool unchangeable = false;
};

// `name` is a plain name. Symbolic links are not followed. `missing` is the reason for a file that is not there.
// Fails: `missing`, PluginNotPrivate, OverBound.
result<trusted_file> read_trusted_file(const trusted_folder &folder, const std::string &name, std::size_t most,
                                       reason missing);

// SHA-256 in lower-case hex.
result<std::string> digest_text(std::string_view bytes);

}  // namespace thole::loader
