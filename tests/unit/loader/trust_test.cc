// Who may write to a plugin's files: owners, modes, symbolic links, sticky folders. What needs root to be tried is
// skipped by name without it.
#include "loader/trust.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"

namespace thole::loader {
namespace {

constexpr uid_t somebody = 65534;

void make(const std::string &path, mode_t mode) {
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0) << path;
  ASSERT_EQ(::chmod(path.c_str(), mode), 0) << path;
}
std::string opened(const std::string &path) {
  return answer(open_trusted_folder(path));
}

TEST(Trust, TakesFoldersThatOnlyTheirOwnerMayWrite) {
  const folder f;
  EXPECT_EQ(opened(f.path), "good");
  std::size_t right = 0, all = 0;
  for (mode_t mode : {0700u, 0755u, 0750u, 0500u, 0775u, 0757u, 0777u, 0770u, 01777u, 01775u, 02755u}) {
    const std::string path = f.path + "/" + std::to_string(mode);
    make(path, mode);
    // The last folder is never excused by its sticky bit: others may add a manifest.
    const std::string expected = (mode & 0022) == 0 ? "good" : "PluginFolderNotPrivate";
    EXPECT_EQ(opened(path), expected) << std::oct << mode;
    right += opened(path) == expected, ++all;
  }
  std::printf("%zu of %zu modes\n", right, all);
}

TEST(Trust, LooksAtEveryFolderAbove) {
  const folder f;
  make(f.path + "/open", 0777);
  make(f.path + "/open/own", 0700);
  make(f.path + "/open/own/plugins", 0700);
  EXPECT_EQ(opened(f.path + "/open/own/plugins"), "PluginFolderNotPrivate");
  // In a sticky one others cannot replace what is not theirs.
  ASSERT_EQ(::chmod((f.path + "/open").c_str(), 01777), 0);
  EXPECT_EQ(opened(f.path + "/open/own/plugins"), "good");
  ASSERT_EQ(::chmod((f.path + "/open").c_str(), 0770), 0);
  EXPECT_EQ(opened(f.path + "/open/own/plugins"), "PluginFolderNotPrivate");
}

TEST(Trust, FollowsLinksToFoldersAndLooksWhereTheyLead) {
  const folder f;
  make(f.path + "/right", 0755);
  make(f.path + "/open", 0777);
  make(f.path + "/open/plugins", 0755);
  ASSERT_EQ(::symlink("right", (f.path + "/to-right").c_str()), 0);
  ASSERT_EQ(::symlink("open/plugins", (f.path + "/to-open").c_str()), 0);
  ASSERT_EQ(::symlink("to-itself", (f.path + "/to-itself").c_str()), 0);
  const auto right = open_trusted_folder(f.path + "/to-right/../to-right/.");
  ASSERT_TRUE(right) << right.error().text();
  EXPECT_EQ(right->path, f.path + "/right");
  EXPECT_EQ(opened(f.path + "/to-open"), "PluginFolderNotPrivate");
  EXPECT_EQ(opened(f.path + "/to-itself"), "PluginFolderMissing");
  EXPECT_EQ(opened(f.path + "/nowhere"), "PluginFolderMissing");
  EXPECT_EQ(opened(""), "PluginFolderMissing");
  f.write("file", "x");
  EXPECT_NE(opened(f.path + "/file"), "good");
}

TEST(Trust, TakesRootsAndOwnFoldersOnly) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a folder away";
  const folder f;
  make(f.path + "/given", 0755);
  make(f.path + "/given/plugins", 0755);
  EXPECT_EQ(opened(f.path + "/given/plugins"), "good");
  ASSERT_EQ(::chown((f.path + "/given/plugins").c_str(), somebody, static_cast<gid_t>(-1)), 0);
  EXPECT_EQ(opened(f.path + "/given/plugins"), "PluginFolderNotPrivate");
  ASSERT_EQ(::chown((f.path + "/given/plugins").c_str(), 0, static_cast<gid_t>(-1)), 0);
  // A folder above that is another's, sticky or not, is replaced at will by that owner.
  ASSERT_EQ(::chown((f.path + "/given").c_str(), somebody, static_cast<gid_t>(-1)), 0);
  EXPECT_EQ(opened(f.path + "/given/plugins"), "PluginFolderNotPrivate");
  ASSERT_EQ(::chmod((f.path + "/given").c_str(), 01777), 0);
  EXPECT_EQ(opened(f.path + "/given/plugins"), "PluginFolderNotPrivate");
}

// --- Files of a folder. ----------------------------------------------------------------------------------------------

class files : public testing::Test {
 protected:
  files() : opened_(open_trusted_folder(f.path)) {}
  result<trusted_file> read(const std::string &name, std::size_t most = 4096) {
    return read_trusted_file(*opened_, name, most, reason::PluginLibraryMissing);
  }
  folder f;
  result<trusted_folder> opened_;
};

TEST_F(files, AreReadOnceAndWhole) {
  const std::string bytes("a\0b", 3);
  f.write("lib.so", bytes);
  const auto file = read("lib.so");
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->bytes, bytes);
  EXPECT_EQ(file->unchangeable, ::geteuid() == 0);
}

TEST_F(files, HaveAModeAKindAndABound) {
  std::size_t right = 0, all = 0;
  for (mode_t mode : {0600u, 0644u, 0755u, 0444u, 0664u, 0646u, 0666u, 0777u}) {
    const std::string name = "m" + std::to_string(mode);
    f.write(name, "x", mode);
    const std::string expected = (mode & 0022) == 0 ? "good" : "PluginNotPrivate";
    EXPECT_EQ(answer(read(name)), expected) << std::oct << mode;
    right += answer(read(name)) == expected, ++all;
  }
  std::printf("%zu of %zu modes\n", right, all);
  f.write("large", std::string(4097, 'x'));
  f.write("just", std::string(4096, 'x'));
  EXPECT_EQ(answer(read("large")), "OverBound");
  EXPECT_EQ(answer(read("just")), "good");
  make(f.path + "/folder", 0755);
  EXPECT_EQ(answer(read("folder")), "PluginNotPrivate");
  ASSERT_EQ(::mkfifo((f.path + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(answer(read("fifo")), "PluginNotPrivate") << "and it does not wait for a writer";
  EXPECT_EQ(answer(read("nothing")), "PluginLibraryMissing");
}

TEST_F(files, AreNotLinks) {
  f.write("real", "x");
  ASSERT_EQ(::symlink("real", (f.path + "/link").c_str()), 0);
  ASSERT_EQ(::symlink("nowhere", (f.path + "/broken").c_str()), 0);
  EXPECT_EQ(answer(read("link")), "PluginNotPrivate");
  EXPECT_EQ(answer(read("broken")), "PluginNotPrivate");
}

TEST_F(files, BelongToRootOrToUs) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a file away";
  const std::string path = f.write("lib.so", "x");
  ASSERT_EQ(::chown(path.c_str(), somebody, static_cast<gid_t>(-1)), 0);
  EXPECT_EQ(answer(read("lib.so")), "PluginNotPrivate");
}

TEST_F(files, AreThoseOfTheFolderThatWasOpened) {
  f.write("lib.so", "first");
  const folder other;
  other.write("lib.so", "second");
  const std::string aside = f.path + ".aside";
  ASSERT_EQ(::rename(f.path.c_str(), aside.c_str()), 0);
  ASSERT_EQ(::symlink(other.path.c_str(), f.path.c_str()), 0);
  const auto file = read("lib.so");
  ::unlink(f.path.c_str());
  ::rename(aside.c_str(), f.path.c_str());
  ASSERT_TRUE(file);
  EXPECT_EQ(file->bytes, "first");
}

TEST_F(files, OfManifestsAreListedInOrder) {
  for (const char *name : {"b.yaml", "a.yaml", ".hidden.yaml", "c.yml", "d.yaml.bak", "B.yaml"}) f.write(name, "x");
  const auto names = manifest_names(*opened_);
  ASSERT_TRUE(names);
  EXPECT_EQ(*names, (std::vector<std::string>{"B.yaml", "a.yaml", "b.yaml"}));
  for (int i = 0; i < 253; ++i) f.write(std::to_string(i) + ".yaml", "x");
  EXPECT_EQ(answer(manifest_names(*opened_)), "good");
  f.write("one-more.yaml", "x");
  EXPECT_EQ(answer(manifest_names(*opened_)), "OverBound");
}

TEST(Digest, IsSha256) {
  EXPECT_EQ(digest_text("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace thole::loader
