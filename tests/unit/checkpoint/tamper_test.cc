// Bytes that somebody changed, files that somebody moved: nothing of it is accepted.
#include <fstream>

#include "fixture.h"

namespace thole::checkpoint::test {
namespace {

// Everything that uses a store reads all of it: keys, fences, manifest and every byte of the parts.
result<uint64_t> read_all_of_it(disk &d) {
  return check_small(in_memory(d));
}

result<> make_small(disk &d) {
  target t = in_memory(d);
  THOLE_TRY(fence(t, 1));
  for (uint32_t rank = 0; rank < 2; ++rank) THOLE_TRY(save_small(in_memory(d), 1, 7, rank, 2));
  return {};
}

std::vector<std::string> files_of(const disk &d) {
  std::vector<std::string> out;
  for (const auto &[path, node] : d.names)
    if (!d.nodes.at(node).folder) out.push_back(path);
  return out;
}

std::string &bytes_of(disk &d, const std::string &path) {
  return d.nodes[d.names.at(path)].bytes;
}

TEST(Tamper, EveryByteThatIsFlippedIsNoticed) {
  disk d;
  ASSERT_OK(make_small(d));
  ASSERT_OK(read_all_of_it(d));
  std::size_t flips = 0;
  std::size_t noticed = 0;
  for (const std::string &path : files_of(d)) {
    std::string &bytes = bytes_of(d, path);
    for (std::size_t i = 0; i < bytes.size(); i += one_in(), ++flips) {
      const char bit = static_cast<char>(1 << (i % 8));
      bytes[i] = static_cast<char>(bytes[i] ^ bit);
      auto read = read_all_of_it(d);
      if (!read) ++noticed;
      else ADD_FAILURE() << path << " byte " << i;
      bytes[i] = static_cast<char>(bytes[i] ^ bit);
    }
  }
  ASSERT_OK(read_all_of_it(d));
  EXPECT_EQ(noticed, flips);
  std::printf("flipped bytes noticed: %zu of %zu, in %zu files (one in %zu looked at)\n", noticed, flips,
              files_of(d).size(), one_in());
}

TEST(Tamper, EveryTruncationExtensionAndSwapIsNoticed) {
  disk d;
  ASSERT_OK(make_small(d));
  std::size_t tried = 0;
  std::size_t noticed = 0;
  const auto expect_refusal = [&](const std::string &what) {
    ++tried;
    auto read = read_all_of_it(d);
    if (!read) ++noticed;
    else ADD_FAILURE() << what;
  };
  for (const std::string &path : files_of(d)) {
    std::string &bytes = bytes_of(d, path);
    const std::string before = bytes;
    for (std::size_t size = 0; size<before.size(); size += before.size()> 4096 ? 512 : 7) {
      bytes = before.substr(0, size);
      expect_refusal(path + " cut");
    }
    bytes = before + std::string(1, '\0');
    expect_refusal(path + " one longer");
    bytes = before + std::string(4096, '\0');
    expect_refusal(path + " one page longer");
    bytes = before;
    const uint64_t node = d.names.at(path);
    d.names.erase(path);
    const bool fence_file = path.find("/step-") == path.npos && path.find(slots_name) == path.npos;
    if (!fence_file) expect_refusal(path + " gone");  // a fence that is taken away is the anchor's to notice
    d.names[path] = node;
    for (const std::string &other : files_of(d)) {
      if (other == path) continue;
      bytes = bytes_of(d, other);
      expect_refusal(path + " is " + other);
      bytes = before;
    }
  }
  EXPECT_EQ(noticed, tried);
  std::printf("cut, lengthened, missing and swapped files noticed: %zu of %zu\n", noticed, tried);
}

// The same place in another checkpoint of the same key: another step, attempt, run.
TEST(Tamper, FilesOfOtherStepsAttemptsAndRunsAreNoticed) {
  disk d;
  ASSERT_OK(make_small(d));
  const id128 other_run{7, 7};
  ASSERT_OK(save_small(in_memory(d), 1, 8, 0, 2));
  ASSERT_OK(save_small(in_memory(d), 1, 8, 1, 2));
  target t = in_memory(d);
  ASSERT_OK(fence(t, 2));
  for (uint32_t rank = 0; rank < 2; ++rank) {
    ASSERT_OK(save_small(in_memory(d), 2, 8, rank, 2));
    ASSERT_OK(save_small(in_memory(d, other_run), 2, 8, rank, 2));
  }
  const std::string here = checkpoint_folder(the_run, 8, checkpoint_id(the_run, 2, 8));
  const std::string others[] = {checkpoint_folder(the_run, 7, checkpoint_id(the_run, 1, 7)),
                                checkpoint_folder(the_run, 8, checkpoint_id(the_run, 1, 8)),
                                checkpoint_folder(other_run, 8, checkpoint_id(other_run, 2, 8))};
  std::size_t tried = 0;
  std::size_t noticed = 0;
  for (const std::string &other : others)
    for (const std::string &name : {part_name(0), part_name(1), std::string(manifest_name), std::string(slots_name)}) {
      std::string &bytes = bytes_of(d, here + "/" + name);
      const std::string before = bytes;
      bytes = bytes_of(d, other + "/" + name);
      ++tried;
      if (!read_all_of_it(d)) ++noticed;
      else ADD_FAILURE() << name << " of " << other;
      bytes = before;
    }
  // All of them at once: a whole checkpoint of another place.
  for (const std::string &other : others) {
    disk all = d;
    for (const std::string &name : {part_name(0), part_name(1), std::string(manifest_name), std::string(slots_name)})
      bytes_of(all, here + "/" + name) = bytes_of(all, other + "/" + name);
    ++tried;
    if (!read_all_of_it(all)) ++noticed;
    else ADD_FAILURE() << "all of " << other;
  }
  ASSERT_OK(read_all_of_it(d));
  EXPECT_EQ(noticed, tried);
  std::printf("files of other steps, attempts and runs noticed: %zu of %zu\n", noticed, tried);
}

TEST(Tamper, AnotherKeyOpensNothing) {
  disk d;
  ASSERT_OK(make_small(d));
  const scratch folder;
  ASSERT_OK(write_new_key(folder / "other"));
  const auto with = [&](const std::string &key) {
    target t = in_memory(d);
    t.key = key_source{false, key, {}};
    return reader::open(std::move(t), {});
  };
  EXPECT_WHY(with(folder / "other"), KeyWrong);
  EXPECT_WHY(with(folder / "none"), KeyMissing);
  EXPECT_WHY(write_new_key(folder / "other"), KeyExists);
  ASSERT_EQ(chmod((folder / "other").c_str(), 0640), 0);
  EXPECT_WHY(with(folder / "other"), KeyNotPrivate);
  std::ofstream(folder / "bad") << "thole-key-1 nothing\n";
  ASSERT_EQ(chmod((folder / "bad").c_str(), 0600), 0);
  EXPECT_WHY(with(folder / "bad"), KeyBad);
  std::ifstream in(key_file());
  std::string text((std::istreambuf_iterator<char>(in)), {});
  text[20] = text[20] == 'A' ? 'B' : 'A';
  std::ofstream(folder / "typo") << text;
  ASSERT_EQ(chmod((folder / "typo").c_str(), 0600), 0);
  EXPECT_WHY(with(folder / "typo"), KeyBad);
}

}  // namespace
}  // namespace thole::checkpoint::test
