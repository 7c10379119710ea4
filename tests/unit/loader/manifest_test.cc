// Manifests: what each field may be, and where the sentence says that it is not.
#include "loader/manifest.h"

#include <gtest/gtest.h>
#include <thole/plugin.h>

#include "fixture.h"
#include "loader/elf.h"

namespace thole::loader {
namespace {

const std::string digest(64, 'a');

// A manifest with one line exchanged; the number of the line is that of the key.
std::string with(const std::string &key, const std::string &line) {
  const std::pair<std::string, std::string> lines[] = {{"apiVersion", "apiVersion: thole.dev/v1alpha1"},
                                                       {"kind", "kind: Plugin"},
                                                       {"id", "id: org.example.fpga"},
                                                       {"provides", "provides: device"},
                                                       {"version", "version: \"1.0.0\""},
                                                       {"abi", "abi: \"0.1\""},
                                                       {"library", "library: libfpga.so"},
                                                       {"machine", "machine: x86_64"},
                                                       {"sha256", "sha256: \"" + digest + "\""}};
  std::string text;
  for (const auto &[name, usual] : lines) text += (name == key ? line : usual) + "\n";
  return text;
}

TEST(Manifest, ReadsEveryField) {
  const auto m = read_manifest(with("", ""), "fpga.yaml");
  ASSERT_TRUE(m) << m.error().text();
  EXPECT_EQ(m->id, "org.example.fpga");
  EXPECT_EQ(m->provides, "device");
  EXPECT_EQ(m->version, "1.0.0");
  EXPECT_EQ(m->library, "libfpga.so");
  EXPECT_EQ(m->machine, "x86_64");
  EXPECT_EQ(m->sha256, digest);
  EXPECT_EQ(std::pair(m->abi_major, m->abi_minor), std::pair(0u, 1u));
}

TEST(Manifest, SaysWhereItIsWrong) {
  struct wrong {
    std::string key, line, place;
  };
  const wrong all[] = {
      {"apiVersion", "apiVersion: thole.dev/v2", "1:13"},
      {"apiVersion", "", "1:1"},  // missing: the place of the mapping, which then begins in line 2
      {"kind", "kind: TrainingJob", "2:7"},
      {"id", "id: fpga", "3:5"},
      {"id", "id: Org.Example", "3:5"},
      {"id", "id: org..fpga", "3:5"},
      {"id", "id: org.fpga.", "3:5"},
      {"id", "id: -org.fpga", "3:5"},
      {"id", "id: org.example.fpg\xC3\xA4", "3:5"},
      {"id", "id: org." + std::string(125, 'a'), "3:5"},
      {"id", "id: [org.fpga]", "3:5"},
      {"provides", "provides: store", "4:11"},
      {"version", "version: 1.0", "5:10"},
      {"version", "version: \"\"", "5:10"},
      {"version", "version: \"" + std::string(65, '1') + "\"", "5:10"},
      {"abi", "abi: 0.1", "6:6"},
      {"abi", "abi: \"01\"", "6:6"},
      {"abi", "abi: \"0.65536\"", "6:6"},
      {"abi", "abi: \"0.-1\"", "6:6"},
      {"library", "library: ../libfpga.so", "7:10"},
      {"library", "library: /lib/libfpga.so", "7:10"},
      {"library", "library: ..", "7:10"},
      {"library", "library: " + std::string(256, 'a'), "7:10"},
      {"library", "library: \"a\\nb\"", "7:10"},
      {"library", "library: \"a\\0b\"", "7:10"},
      {"machine", "machine: \"\"", "8:10"},
      {"sha256", "sha256: \"" + std::string(64, 'A') + "\"", "9:9"},
      {"sha256", "sha256: \"" + std::string(63, 'a') + "\"", "9:9"},
      {"sha256", "sha256: \"" + std::string(65, 'a') + "\"", "9:9"},
      {"sha256", "sha256: \"" + std::string(64, 'g') + "\"", "9:9"},
      {"sha256", "sha256: x\nsha512: y", "9:9"},
      {"machine", "machine: x86_64\nmachines: x", "9:1"},
      {"machine", "machine: x86_64\nid: org.example.b", "9:1"},
      {"machine", "machine: &a x86_64", "8:10"},
  };
  std::size_t right = 0;
  for (const wrong &w : all) {
    const auto m = read_manifest(with(w.key, w.line), "fpga.yaml");
    ASSERT_FALSE(m) << w.line;
    EXPECT_EQ(m.error().why, reason::PluginManifestBad) << w.line;
    const std::string text(m.error().text());
    const std::string begin = "fpga.yaml: " + (w.line.empty() ? "2:1" : w.place) + ": ";
    EXPECT_TRUE(text.starts_with(begin)) << w.line << "\n  " << text << "\n  " << begin;
    right += text.starts_with(begin);
  }
  std::printf("%zu of %zu wrong manifests are refused at their place\n", right, std::size(all));
}

TEST(Manifest, IsBounded) {
  const std::string much(most_manifest_bytes, '#');
  EXPECT_EQ(answer(read_manifest(with("", "") + much, "m")), "PluginManifestBad");
  EXPECT_EQ(answer(read_manifest("", "m")), "PluginManifestBad");
  EXPECT_EQ(answer(read_manifest(std::string(1000, '['), "m")), "PluginManifestBad");
}

TEST(Manifest, IsForThisMachineAndThisContract) {
  manifest m;
  m.id = "org.example.fpga";
  m.machine = this_machine();
  m.abi_major = THOLE_ABI_MAJOR;
  m.abi_minor = THOLE_ABI_MINOR;
  EXPECT_EQ(answer(check_manifest(m)), "good");
  m.abi_minor = THOLE_ABI_MINOR + 1;
  EXPECT_EQ(answer(check_manifest(m)), "PluginAbiNewer");
  m.abi_major = THOLE_ABI_MAJOR + 1, m.abi_minor = 0;
  EXPECT_EQ(answer(check_manifest(m)), "PluginAbiNewer");
  if (THOLE_ABI_MAJOR == 0 && THOLE_ABI_MINOR > 0) {
    m.abi_major = 0, m.abi_minor = THOLE_ABI_MINOR - 1;
    EXPECT_EQ(answer(check_manifest(m)), "PluginAbiOlder");
  }
  m.machine = "sparc64";
  EXPECT_EQ(answer(check_manifest(m)), "PluginOtherMachine");
}

}  // namespace
}  // namespace thole::loader
