#include "checkpoint/store.h"

#include <algorithm>

#include "base/id.h"

namespace thole::checkpoint {

result<octets_out> out_file::block(std::size_t size) {
  block_.resize(size);
  return octets_out(block_);
}

result<> out_file::write_block(uint64_t offset, std::size_t size) {
  return write_at(offset, octets(block_).first(size));
}

result<octets> in_file::block_at(uint64_t offset, std::size_t size, uint64_t end) {
  block_.resize(size);
  const octets_out to = octets_out(block_).first(std::min<uint64_t>(size, end - offset));
  THOLE_TRY(read_at(offset, to));
  return octets(to);
}

result<std::optional<std::string>> read_small(store &files, const std::string &path, std::size_t most) {
  THOLE_LET(auto file, files.open(path));
  if (file == nullptr) return std::optional<std::string>{};
  if (file->size() > most)
    return fail(reason::CheckpointDamaged, "{} has {} bytes; {} are the most", files.place(path), file->size(), most);
  std::string out(file->size(), '\0');
  THOLE_TRY(file->read_at(0, {reinterpret_cast<unsigned char *>(out.data()), out.size()}));
  return std::optional<std::string>(std::move(out));
}

result<std::string> temporary_name(const std::string &path) {
  THOLE_LET(const id128 salt, random_id());
  return path + "." + to_text(salt) + ".tmp";
}

bool is_temporary(std::string_view name) noexcept {
  return name.ends_with(".tmp");
}

result<bool> put_if_absent(store &files, const std::string &path, octets content) {
  THOLE_LET(const std::string temporary, temporary_name(path));
  auto put = [&]() -> result<bool> {
    THOLE_LET(auto file, files.create(temporary));
    THOLE_TRY(file->write_at(0, content));
    THOLE_TRY(file->sync());
    return files.publish(temporary, path);
  };
  auto done = put();
  if (!done || !*done) static_cast<void>(files.remove(temporary));
  return done;
}

}  // namespace thole::checkpoint
