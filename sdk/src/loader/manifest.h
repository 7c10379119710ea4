// loader/manifest.h: the YAML file by which a plugin is found (thole/plugin.h describes it).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thole::loader {

struct manifest {
  std::string id;        // "org.example.fpga"
  std::string provides;  // "device"
  std::string version;
  uint32_t abi_major = 0;
  uint32_t abi_minor = 0;
  std::string library;  // a name beside the manifest
  std::string machine;  // "x86_64"
  std::string sha256;   // 64 digits, lower case
};

constexpr std::size_t most_manifest_bytes = 65536;

// `name` is for the sentences. Fails: PluginManifestBad, with line and column.
result<manifest> read_manifest(std::string_view bytes, const std::string &name);

// Whether a plugin of this manifest can work here, as far as the manifest tells.
// Fails: PluginOtherMachine, PluginAbiOlder, PluginAbiNewer.
result<> check_manifest(const manifest &m);

}  // namespace thole::loader
