#include "loader/manifest.h"

#include <thole/plugin.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/text.h"
#include "base/yaml.h"
#include "loader/elf.h"

namespace thole::loader {
namespace {

bool only(std::string_view text, std::string_view allowed) noexcept {
  return !text.empty() && text.find_first_not_of(allowed) == std::string_view::npos;
}

// As Java packages and Kubernetes domains: org.example.fpga.
bool is_id(std::string_view id) noexcept {
  const bool dotted = id.find('.') != std::string_view::npos && id.find("..") == std::string_view::npos;
  return id.size() <= 128 && dotted && only(id, "abcdefghijklmnopqrstuvwxyz0123456789.-") && id.front() != '.' &&
         id.back() != '.' && id.front() != '-' && id.back() != '-';
}

bool is_plain_name(std::string_view name) noexcept {
  return name.size() <= 255 && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

bool read_abi(std::string_view text, manifest &m) noexcept {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos) return false;
  const auto major = parse_u64(text.substr(0, dot));
  const auto minor = parse_u64(text.substr(dot + 1));
  if (!major || !minor || *major > 65535 || *minor > 65535) return false;
  m.abi_major = static_cast<uint32_t>(*major);
  m.abi_minor = static_cast<uint32_t>(*minor);
  return true;
}

void read_fields(const yaml::node &root, manifest &m, yaml::problems &found) {
  yaml::object file(root, "", found);
  auto want = [&](std::string_view key, bool right, std::string_view message) {
    if (file.has(key) && !right) file.refuse(key, reason::FieldBad, message);
  };
  want("apiVersion", file.text("apiVersion") == "thole.dev/v1alpha1", "write thole.dev/v1alpha1");
  want("kind", file.text("kind") == "Plugin", "write Plugin");
  m.id = file.text("id");
  want("id", is_id(m.id), "write a name like org.example.fpga: lower-case letters, digits, '-' and dots, 128 at most");
  m.provides = file.text("provides");
  want("provides", m.provides == "device", "this core knows plugins that provide: device");
  m.version = file.text("version");
  want("version", !m.version.empty() && m.version.size() <= 64, "write a version such as 1.0.0, 64 bytes at most");
  want("abi", read_abi(file.text("abi"), m), "write the contract's version in quotes, such as \"0.1\"");
  m.library = file.text("library");
  want("library", !m.library.empty() && is_plain_name(m.library),
       "write the name of a file beside the manifest, no path");
  m.machine = file.text("machine");
  want("machine", !m.machine.empty() && m.machine.size() <= 32, "write x86_64 or aarch64");
  m.sha256 = file.text("sha256");
  want("sha256", m.sha256.size() == 64 && only(m.sha256, "0123456789abcdef"),
       "write the SHA-256 of the library's bytes: 64 lower-case hexadecimal digits, in quotes");
  file.finish();
}

}  // namespace

result<manifest> read_manifest(std::string_view bytes, const std::string &name) {
  yaml::problems found;
  manifest m;
  const yaml::limits bounds{most_manifest_bytes, 8, 256};
  const std::optional<yaml::node> root = yaml::read(bytes, found, bounds);
  if (root) read_fields(*root, m, found);
  if (const result<> good = found.outcome(); !good)
    return fail(reason::PluginManifestBad, "{}: {}", name, good.error().text());
  return m;
}

result<> check_manifest(const manifest &m) {
  if (m.machine != this_machine())
    return fail(reason::PluginOtherMachine, "{} is for {}, this machine is {}: install the one for this machine", m.id,
                m.machine, this_machine());
  // While the major is 0 each minor may break; after that a plugin works with every core that is as new as it is.
  const auto built = std::pair(m.abi_major, m.abi_minor);
  constexpr auto here = std::pair(uint32_t{THOLE_ABI_MAJOR}, uint32_t{THOLE_ABI_MINOR});
  if (built > here)
    return fail(reason::PluginAbiNewer,
                "{} was built for the contract {}.{}, this core has {}.{}: install a newer Thole", m.id, built.first,
                built.second, here.first, here.second);
  if (built.first != here.first || (here.first == 0 && built != here))
    return fail(reason::PluginAbiOlder, "{} was built for the contract {}.{}, this core has {}.{}: build it again",
                m.id, built.first, built.second, here.first, here.second);
  return {};
}

}  // namespace thole::loader
