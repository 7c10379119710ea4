// checkpoint/secret.h: key bytes on a page of their own: locked where the system allows it, in no core dump, wiped in a
// forked child, and wiped when dropped.
#pragma once

#include <utility>

#include "base/status.h"
#include "checkpoint/octets.h"

namespace thole::checkpoint {

class secret {
 public:
  static constexpr std::size_t size = 32;

  static result<secret> make();  // zeros
  static result<secret> random();
  static result<secret> copy(octets bytes);  // exactly `size`

  secret() = default;
  secret(secret &&other) noexcept : bytes_(std::exchange(other.bytes_, nullptr)) {}
  secret &operator=(secret &&other) noexcept {
    if (this != &other) {
      drop();
      bytes_ = std::exchange(other.bytes_, nullptr);
    }
    return *this;
  }
  ~secret() { drop(); }

  octets view() const noexcept { return {bytes_, bytes_ == nullptr ? 0 : size}; }
  octets_out room() noexcept { return {bytes_, bytes_ == nullptr ? 0 : size}; }

 private:
  void drop() noexcept;
  unsigned char *bytes_ = nullptr;
};

}  // namespace thole::checkpoint
