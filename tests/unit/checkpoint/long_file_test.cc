// Files that are long enough to go past the page cache, on a disk, in memory, and where the kernel does not help.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>

#include "fixture.h"

namespace thole::checkpoint::test {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t block = MiB;

std::string content_of(const std::string &path) {
  std::string out(std::filesystem::file_size(path), '\0');
  std::ifstream(path, std::ios::binary).read(out.data(), static_cast<std::streamsize>(out.size()));
  return out;
}

// Much noise at once: every eight bytes differ from all others.
std::string long_noise(std::size_t size, uint64_t seed) {
  std::string out(size / 8 * 8, '\0');
  for (std::size_t at = 0; at < out.size(); at += 8)
    put_le(reinterpret_cast<unsigned char *>(out.data()) + at, (at + seed) * 0x9E3779B97F4A7C15u);
  return out;
}

// A page, blocks, the last of them short, and a tail: as a container is written.
result<> write_blocks(store &files, const std::string &name, const std::string &data) {
  THOLE_LET(auto file, files.create(name));
  THOLE_TRY(file->write_at(0, octets_of(data).first(page)));
  std::size_t at = page;
  const std::size_t end = data.size() - 3 * page;
  while (at < end) {
    THOLE_LET(const octets_out to, file->block(block));
    const std::size_t n = std::min(block, end - at);
    std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), n, to.begin());
    THOLE_TRY(file->write_block(at, n));
    at += n;
  }
  THOLE_TRY(file->write_at(end, octets_of(data).subspan(end)));
  return file->sync();
}

result<std::string> read_blocks(store &files, const std::string &name, std::size_t from) {
  THOLE_LET(auto file, files.open(name));
  std::string out;
  for (std::size_t at = from; at < file->size(); at += block) {
    THOLE_LET(const octets got, file->block_at(at, block, file->size()));
    out += text_of(got);
  }
  return out;
}

void expect_whole(const std::string &folder) {
  const auto files = posix_store(folder);
  int good = 0;
  const std::size_t lengths[] = {5 * page, 4 * MiB + page, 5 * MiB + 5 * page, 31 * MiB, 100 * MiB + 7 * page};
  for (const std::size_t size : lengths) {
    const std::string name = std::to_string(size);
    const std::string data = long_noise(size, size);
    ASSERT_OK(write_blocks(*files, name, data));
    EXPECT_TRUE(content_of(folder + "/" + name) == data) << size;
    const int fd = ::open((folder + "/" + name).c_str(), O_RDONLY);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
    for (const std::size_t from : {std::size_t{0}, page}) {
      auto back = read_blocks(*files, name, from);
      ASSERT_OK(back);
      EXPECT_TRUE(*back == data.substr(from)) << size << " from " << from;
      good += *back == data.substr(from) ? 1 : 0;
    }
    std::filesystem::remove(folder + "/" + name);
  }
  std::printf("long files in %s: %d of %zu reads equal\n", folder.starts_with("/dev/shm") ? "memory" : "a folder", good,
              2 * std::size(lengths));
}

TEST(LongFile, IsWhatWasWrittenOnADisk) {
  const scratch folder;
  expect_whole(folder.path());
}

TEST(LongFile, IsWhatWasWrittenInMemory) {
  std::string name = "/dev/shm/thole-ckpt-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) GTEST_SKIP() << "long files in memory: there is no /dev/shm to write to";
  expect_whole(name);
  std::filesystem::remove_all(name);
}

// From now on this process gets `error` from system call `number`.
bool refuse(unsigned number, unsigned error) {
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(steps), steps};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// A container that forbids one of the calls.
TEST(LongFile, NeedsNoneOfTheKernelsHelp) {
  const scratch folder;
  const auto files = posix_store(folder.path());
  const std::string data = long_noise(20 * MiB + page, 3);
  const std::pair<unsigned, unsigned> refusals[] = {
      {SYS_io_setup, ENOSYS}, {SYS_io_submit, EAGAIN}, {SYS_fallocate, ENOSPC}, {SYS_preadv2, ENOSYS}};
  std::size_t good = 0;
  for (const auto &[number, error] : refusals) {
    const std::string name = std::to_string(number);
    const pid_t child = fork();
    if (child == 0) {
      if (!refuse(number, error)) _exit(2);
      if (!write_blocks(*files, name, data)) _exit(3);
      const auto back = read_blocks(*files, name, page);
      _exit(back && *back == data.substr(page) ? 0 : 4);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "call " << number;
    EXPECT_TRUE(content_of(folder / name) == data) << "call " << number;
    good += status == 0 ? 1 : 0;
  }
  std::printf("long files without one call of the kernel: %zu of %zu good\n", good, std::size(refusals));
}

// What is read ahead is what the file is then, not later.
TEST(LongFile, ThatIsCutWhileItIsReadIsNoticed) {
  const scratch folder;
  const auto files = posix_store(folder.path());
  ASSERT_OK(write_blocks(*files, "f", long_noise(40 * MiB, 4)));
  auto file = files->open("f");
  ASSERT_OK(file);
  ASSERT_OK((*file)->block_at(0, block, 40 * MiB));
  std::filesystem::resize_file(folder / "f", 30 * MiB);
  result<octets> got = fail(reason::Defect, "");
  std::size_t at = block;
  for (; at < 40 * MiB; at += block)
    if (got = (*file)->block_at(at, block, 40 * MiB); !got) break;
  EXPECT_WHY(std::move(got), CheckpointDamaged);
  EXPECT_EQ(at, 30 * MiB);
}

// Another order than the one that was announced, and runs that are left in the middle.
TEST(LongFile, IsReadInAnyOrder) {
  const scratch folder;
  const auto files = posix_store(folder.path());
  const std::string data = long_noise(64 * MiB, 5);
  ASSERT_OK(write_blocks(*files, "f", data));
  auto file = files->open("f");
  ASSERT_OK(file);
  std::mt19937_64 random(1);
  int good = 0;
  for (int i = 0; i < 60; ++i) {
    std::size_t at = random() % (data.size() / page) * page;
    const std::size_t end = at + (1 + random() % ((data.size() - at) / page)) * page;
    for (int n = 0; n < 4 && at < end; ++n, at += block) {
      auto got = (*file)->block_at(at, block, end);
      ASSERT_OK(got);
      ASSERT_TRUE(text_of(*got) == std::string_view(data).substr(at, std::min(block, end - at))) << at;
    }
    ++good;
  }
  std::printf("runs begun anywhere: %d of 60 equal\n", good);
}

TEST(LongFile, FillsAStoreAndSaysSo) {
  const scratch folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=24m") != 0)
    GTEST_SKIP() << "a store that is full behind its first blocks: mounting needs root";
  EXPECT_WHY(write_blocks(*posix_store(folder.path()), "f", long_noise(40 * MiB, 6)), StoreFull);
  umount2(folder.path().c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace thole::checkpoint::test
