#include "checkpoint/store.h"

#include "base/id.h"

namespace thole::checkpoint {

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
