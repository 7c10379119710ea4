// base/status.h: errors as values. An error is plain memory of fixed size: making, moving and reporting one allocates
// nothing, so it works when memory is out.
#pragma once

#include <fmt/core.h>
#include <thole/reasons.h>
#include <thole/status.h>

#include <string_view>
#include <tl/expected.hpp>

namespace thole {

enum class reason : uint16_t {
#define X(name, code, meaning, remedy) name,
  THOLE_REASONS(X)
#undef X
};

thole_code code_of(reason r) noexcept;
std::string_view name_of(reason r) noexcept;

struct error {
  reason why{};
  uint16_t length = 0;  // of message
  uint32_t flags = 0;   // THOLE_STATUS_*
  int32_t os_errno = 0;
  int32_t device_code = 0;
  char message[sizeof(thole_status::message)];

  thole_code code() const noexcept { return code_of(why); }
  std::string_view text() const noexcept { return {message, length}; }
  error with_errno(int e) const noexcept {
    error copy = *this;
    copy.os_errno = e;
    return copy;
  }
};

// expected<T, error>: a value, or why there is none. `result<>` is success or an error.
template <class T = void>
using result = tl::expected<T, error>;

error make_error(reason why, fmt::string_view format, fmt::format_args args) noexcept;

// return fail(reason::StoreFull, "{} has {} bytes left", folder, left);
template <class... Args>
tl::unexpected<error> fail(reason why, fmt::format_string<Args...> format, Args &&...args) noexcept {
  return tl::unexpected<error>(make_error(why, format, fmt::make_format_args(args...)));
}

// The same with errno, whose text is appended: "cannot write a: No space left on device".
error make_system_error(reason why, int os_errno, fmt::string_view format, fmt::format_args args) noexcept;
template <class... Args>
tl::unexpected<error> fail_errno(reason why, int os_errno, fmt::format_string<Args...> format,
                                 Args &&...args) noexcept {
  return tl::unexpected<error>(make_system_error(why, os_errno, format, fmt::make_format_args(args...)));
}

// Copies an error into what the caller of the C ABI gave, which may be NULL or of an older size, and returns its code.
thole_code report(const error &e, thole_status *status) noexcept;

// if (result<> r = f(); !r) return tl::unexpected(r.error());
#define THOLE_TRY(expression)                                                                           \
  do {                                                                                                  \
    if (auto thole_try = (expression); !thole_try) return tl::unexpected(std::move(thole_try).error()); \
  } while (false)

// THOLE_LET(auto n, parse(text)); declares n or returns the error.
#define THOLE_LET_JOIN2(a, b) a##b
#define THOLE_LET_JOIN(a, b) THOLE_LET_JOIN2(a, b)
#define THOLE_LET(declaration, expression) THOLE_LET_(THOLE_LET_JOIN(thole_let_, __LINE__), declaration, expression)
#define THOLE_LET_(temporary, declaration, expression)                 \
  auto temporary = (expression);                                       \
  if (!temporary) return tl::unexpected(std::move(temporary).error()); \
  declaration = std::move(*temporary)

}  // namespace thole
