#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace thole {
namespace {

class File : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/thole-file-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(File, ReplaceIsOldOrNewAndLeavesNothingElse) {
  const std::string path = folder_ + "/a b";
  ASSERT_TRUE(replace_file(path, "one"));
  ASSERT_TRUE(replace_file(path, "two"));
  EXPECT_EQ(*read_file(path, 100), "two");
  struct stat st {};
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  int files = 0;
  for (const auto &entry : std::filesystem::directory_iterator(folder_)) ++files, (void)entry;
  EXPECT_EQ(files, 1);
}

TEST_F(File, AFailedReplaceKeepsTheOldFileAndRemovesItsTemporary) {
  const std::string path = folder_ + "/taken";
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);  // rename over a folder fails
  const auto done = replace_file(path, "x");
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().os_errno, 0);
  int files = 0;
  for (const auto &entry : std::filesystem::directory_iterator(folder_)) ++files, (void)entry;
  EXPECT_EQ(files, 1);
}

TEST_F(File, ReadRefusesMoreThanItMay) {
  ASSERT_TRUE(replace_file(folder_ + "/x", std::string(100, 'x')));
  EXPECT_TRUE(read_file(folder_ + "/x", 100));
  const auto more = read_file(folder_ + "/x", 99);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().why, reason::OverBound);
}

TEST_F(File, FoldersAreMadeWithTheirParentsForTheirOwnerOnly) {
  ASSERT_TRUE(make_folder(folder_ + "/a/b/c"));
  ASSERT_TRUE(make_folder(folder_ + "/a/b/c"));
  struct stat st {};
  ASSERT_EQ(stat((folder_ + "/a/b").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
  ASSERT_TRUE(replace_file(folder_ + "/f", ""));
  EXPECT_FALSE(make_folder(folder_ + "/f/x"));
}

TEST_F(File, DescriptorsAreNotInherited) {
  auto fd = open_file(folder_ + "/x", O_RDWR | O_CREAT);
  ASSERT_TRUE(fd);
  EXPECT_TRUE(fcntl(fd->get(), F_GETFD) & FD_CLOEXEC);
  unique_fd moved = std::move(*fd);
  EXPECT_FALSE(*fd);
  EXPECT_TRUE(moved);
}

TEST(Path, Split) {
  EXPECT_EQ(split_path("/a/b"), std::make_pair(std::string("/a"), std::string("b")));
  EXPECT_EQ(split_path("/a"), std::make_pair(std::string("/"), std::string("a")));
  EXPECT_EQ(split_path("a"), std::make_pair(std::string("."), std::string("a")));
}

}  // namespace
}  // namespace thole
