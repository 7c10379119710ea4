// A plugin that is refused: with the right reason, without a line of it run, and without a page of it mapped.
#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "host.h"

namespace {

using host::folder;
using host::manifest;
using host::specimen;

struct refusal {
  const char *what;
  const char *reason;
  std::function<void(const folder &)> make;
};

void plain(const folder &f, const std::string &name) {
  host::install(f, name);
}
// A specimen whose bytes were changed, with the digest of the changed bytes.
void changed(const folder &f, const std::function<void(std::string &)> &change) {
  std::string bytes = specimen("right");
  change(bytes);
  manifest m;
  m.sha256 = host::sha256(bytes);
  host::write(f / m.library, bytes);
  host::write(f / "specimen.yaml", m.yaml());
}
void with(const folder &f, const std::function<void(manifest &)> &change) {
  manifest m;
  m.sha256 = host::sha256(specimen("right"));
  change(m);
  host::write(f / "specimen.so", specimen("right"));
  host::write(f / "specimen.yaml", m.yaml());
}

const std::vector<refusal> refusals = {
    {"another architecture by its header", "PluginOtherMachine",
     [](const folder &f) {
       changed(f, [](std::string &b) { b[offsetof(Elf64_Ehdr, e_machine)] = static_cast<char>(EM_RISCV); });
     }},
    {"32 bits", "PluginOtherMachine",
     [](const folder &f) { changed(f, [](std::string &b) { b[EI_CLASS] = ELFCLASS32; }); }},
    {"another architecture by its manifest", "PluginOtherMachine",
     [](const folder &f) { with(f, [](manifest &m) { m.machine = "riscv64"; }); }},
    {"a program", "PluginNotElf",
     [](const folder &f) { changed(f, [](std::string &b) { b[offsetof(Elf64_Ehdr, e_type)] = ET_EXEC; }); }},
    {"a text", "PluginNotElf", [](const folder &f) { changed(f, [](std::string &b) { b = "#!/bin/sh\n"; }); }},
    {"an empty file", "PluginNotElf", [](const folder &f) { changed(f, [](std::string &b) { b.clear(); }); }},
    {"half a file", "PluginNotElf",
     [](const folder &f) { changed(f, [](std::string &b) { b.resize(b.size() / 2); }); }},
    {"without the entry", "PluginSymbolMissing", [](const folder &f) { plain(f, "missing"); }},
    {"an extra symbol", "PluginSymbolExtra", [](const folder &f) { plain(f, "extra"); }},
    {"a unique symbol", "PluginSymbolExtra", [](const folder &f) { plain(f, "unique"); }},
    {"static TLS", "PluginStaticTls", [](const folder &f) { plain(f, "static_tls"); }},
    {"its own unwinder", "PluginOwnUnwinder", [](const folder &f) { plain(f, "unwinder"); }},
    {"its own unwinder, stripped", "PluginOwnUnwinder", [](const folder &f) { plain(f, "unwinder_stripped"); }},
    {"an executable stack", "PluginExecutableStack", [](const folder &f) { plain(f, "executable_stack"); }},
    {"a search path", "PluginSearchPath", [](const folder &f) { plain(f, "search_path"); }},
    {"the wrong digest", "PluginDigestWrong",
     [](const folder &f) { with(f, [](manifest &m) { m.sha256 = std::string(64, 'a'); }); }},
    {"one byte more than was digested", "PluginDigestWrong",
     [](const folder &f) {
       plain(f, "right");
       std::ofstream(f / "specimen.so", std::ios::app) << 'x';
     }},
    {"an older contract", "PluginAbiOlder", [](const folder &f) { with(f, [](manifest &m) { m.abi = "0.0"; }); }},
    {"a newer contract", "PluginAbiNewer", [](const folder &f) { with(f, [](manifest &m) { m.abi = "0.2"; }); }},
    {"a newer major", "PluginAbiNewer", [](const folder &f) { with(f, [](manifest &m) { m.abi = "1.0"; }); }},
    {"a library that others may write", "PluginNotPrivate",
     [](const folder &f) {
       plain(f, "right");
       ::chmod((f / "specimen.so").c_str(), 0666);
     }},
    {"a manifest that the group may write", "PluginNotPrivate",
     [](const folder &f) {
       plain(f, "right");
       ::chmod((f / "org.example.specimen.yaml").c_str(), 0664);
     }},
    {"a symbolic link to the library", "PluginNotPrivate",
     [](const folder &f) {
       plain(f, "right");
       host::fs::rename(f / "specimen.so", f / "other.so");
       host::fs::create_symlink("other.so", f / "specimen.so");
     }},
    {"a symbolic link to the manifest", "PluginNotPrivate",
     [](const folder &f) {
       plain(f, "right");
       host::fs::rename(f / "org.example.specimen.yaml", f / "specimen.txt");
       host::fs::create_symlink("specimen.txt", f / "specimen.yaml");
     }},
    {"a FIFO in the library's place", "PluginNotPrivate",
     [](const folder &f) {
       plain(f, "right");
       host::fs::remove(f / "specimen.so");
       ASSERT_EQ(::mkfifo((f / "specimen.so").c_str(), 0600), 0);
     }},
    {"no library", "PluginLibraryMissing",
     [](const folder &f) {
       plain(f, "right");
       host::fs::remove(f / "specimen.so");
     }},
    {"a library by path", "PluginManifestBad",
     [](const folder &f) { with(f, [](manifest &m) { m.library = "../specimen.so"; }); }},
    {"an unknown field", "PluginManifestBad",
     [](const folder &f) { with(f, [](manifest &m) { m.more = "libary: x\n"; }); }},
    {"a manifest that is no YAML", "PluginManifestBad",
     [](const folder &f) { with(f, [](manifest &m) { m.more = "{[\n"; }); }},
};

std::string maps() {
  return host::read("/proc/self/maps");
}

class Refusal : public testing::Test {
 protected:
  folder marks;
  std::string mark = (marks / "mark").string();
  void SetUp() override { ::setenv("THOLE_SPECIMEN_MARK", mark.c_str(), 1); }
  void TearDown() override { ::unsetenv("THOLE_SPECIMEN_MARK"); }
};

// The control: the same specimen without a fault does leave its mark and is mapped, from a memory file.
TEST_F(Refusal, NothingIsWrongWithTheSpecimenItself) {
  folder f;
  // Bytes of its own: what another test has loaded is not mapped again.
  changed(f, [](std::string &b) { b += "control"; });
  host::core core;
  ASSERT_EQ(core.load(f.path()), THOLE_OK) << core.status.message;
  const auto seen = core.plugins();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].reason, "") << seen[0].message;
  EXPECT_EQ(host::read(mark), "right\n");
  EXPECT_NE(maps().find("memfd:specimen.so"), std::string::npos);
}

TEST_F(Refusal, RunsAndMapsNothing) {
  std::size_t right = 0;
  for (const refusal &r : refusals) {
    folder f;
    r.make(f);
    const std::string before = maps();
    host::core core;
    ASSERT_EQ(core.load(f.path()), THOLE_OK) << core.status.message;
    const auto seen = core.plugins();
    ASSERT_EQ(seen.size(), 1u) << r.what;
    EXPECT_EQ(seen[0].reason, r.reason) << r.what << ": " << seen[0].message;
    EXPECT_FALSE(host::fs::exists(mark)) << r.what << ": a line of it has run";
    const std::string after = maps();
    std::size_t libraries = 0, libraries_before = 0;
    for (std::size_t at = 0; (at = after.find("memfd:", at)) != std::string::npos; ++at) ++libraries;
    for (std::size_t at = 0; (at = before.find("memfd:", at)) != std::string::npos; ++at) ++libraries_before;
    EXPECT_EQ(libraries, libraries_before) << r.what << ": it is mapped";
    EXPECT_EQ(after.find(f.path().string()), std::string::npos) << r.what << ": it is mapped";
    std::printf("  %-40s %s\n", r.what, seen[0].reason.c_str());
    right += seen[0].reason == r.reason && !host::fs::exists(mark) && libraries == libraries_before;
  }
  std::printf("refused before a line of it ran: %zu of %zu\n", right, refusals.size());
  EXPECT_EQ(right, refusals.size());
}

TEST_F(Refusal, FoldersThatOthersMayWriteAreRefusedWhole) {
  folder f;
  host::install(f, "right");
  host::core core;
  ::chmod(f.path().c_str(), 0777);
  EXPECT_EQ(core.load(f.path()), THOLE_DENIED);
  EXPECT_EQ(core.reason(), "PluginFolderNotPrivate");
  // A sticky folder will do on the way, but not as the folder itself: others may put new manifests there.
  ::chmod(f.path().c_str(), 01777);
  EXPECT_EQ(core.load(f.path()), THOLE_DENIED);
  ::chmod(f.path().c_str(), 0700);

  folder outer;
  host::fs::create_directory(outer / "inner");
  host::write(outer.path() / "inner" / "specimen.so", specimen("right"));
  ::chmod(outer.path().c_str(), 0777);
  EXPECT_EQ(core.load(outer / "inner"), THOLE_DENIED);
  EXPECT_EQ(core.reason(), "PluginFolderNotPrivate");
  ::chmod(outer.path().c_str(), 01777);
  EXPECT_EQ(core.load(outer / "inner"), THOLE_OK) << core.status.message;

  EXPECT_EQ(core.load(f / "nothing"), THOLE_NOT_FOUND);
  EXPECT_EQ(core.reason(), "PluginFolderMissing");
  EXPECT_FALSE(host::fs::exists(mark));
}

TEST_F(Refusal, FilesOfAnotherUserAreRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  folder f;
  host::install(f, "right");
  ASSERT_EQ(::chown((f / "specimen.so").c_str(), 65534, 65534), 0);
  host::core core;
  ASSERT_EQ(core.load(f.path()), THOLE_OK);
  EXPECT_EQ(core.plugins().at(0).reason, "PluginNotPrivate");
  ASSERT_EQ(::chown(f.path().c_str(), 65534, 65534), 0);
  EXPECT_EQ(core.load(f.path()), THOLE_DENIED);
  EXPECT_EQ(core.reason(), "PluginFolderNotPrivate");
}

TEST_F(Refusal, TheRefusedOneIsTriedAgainAndTheOthersAreLoaded) {
  folder f;
  host::install(f, "right");
  manifest second;
  second.id = "org.example.second";
  second.library = "second.so";
  host::install(f, "missing", second);
  host::core core;
  ASSERT_EQ(core.load(f.path()), THOLE_OK);
  auto seen = core.plugins();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].reason, "PluginSymbolMissing");
  EXPECT_EQ(seen[1].reason, "");
  host::fs::remove(f / "org.example.second.yaml");
  ASSERT_EQ(core.load(f.path()), THOLE_OK);
  EXPECT_EQ(host::read(mark), host::read(mark).substr(0, 6));  // not loaded a second time
}

}  // namespace
