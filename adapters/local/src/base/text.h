// base/text.h: borrowed strings of the C ABI, random names, and sizes and times for people.
#pragma once

#include <thole/base.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thole::local {

inline std::string_view view(thole_str s) noexcept {
  return s.len == 0 ? std::string_view{} : std::string_view{s.data, s.len};
}
inline std::string own(thole_str s) {
  return std::string(view(s));
}
inline thole_str borrow(std::string_view s) noexcept {
  return {s.data(), s.size()};
}
template <class T>
thole_list borrow_list(const std::vector<T> &v) noexcept {
  return v.empty() ? thole_list{nullptr, 0, 0} : thole_list{v.data(), v.size(), sizeof(T)};
}
template <class T, class F>
void each(const thole_list &list, F &&f) {
  for (uint64_t i = 0; i < list.count; ++i) f(*THOLE_AT(list, T, i));
}

// "3f2a...": a UUID as text, and back. From getrandom(2).
thole_id random_id();
std::string id_text(thole_id id);
std::optional<thole_id> parse_id(std::string_view text);

// Equal texts have equal ids. Not cryptographic: it only tells causes apart.
thole_id hashed_id(std::string_view text) noexcept;
std::string short_hash(std::string_view text);

std::string bytes_text(uint64_t bytes);               // "10.0 GiB"
std::string duration_text(int64_t ns);                // "12 ms", "3.4 s", "2 m 5 s"
std::string signal_text(int signal);                  // "signal 9 (SIGKILL)"
std::string utf8_or_replaced(std::string_view text);  // so that it can stand in JSON
std::string join(const std::vector<std::string> &parts, std::string_view between);
std::vector<std::string> split(std::string_view text, char at);
std::optional<uint64_t> parse_u64(std::string_view text) noexcept;

}  // namespace thole::local
