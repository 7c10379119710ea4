// base/problem.h: errors as values: a reason for programs, a sentence for people, and the exit code that goes with
// them.
#pragma once

#include <fmt/core.h>
#include <thole/reasons.h>
#include <thole/status.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace thole::local {

enum class reason : uint16_t {
#define X(name, code, meaning, remedy) name,
  THOLE_REASONS(X)
#undef X
};

// Something in a person's file, with its place.
struct remark {
  uint32_t line = 0;
  uint32_t column = 0;
  std::string field;
  std::string reason;
  std::string message;
  bool error = false;
};

struct problem {
  thole_code code = THOLE_INTERNAL;
  std::string reason;
  std::string message;
  std::vector<remark> remarks{};  // all that was found in a file that is refused
};

template <class T = void>
using result = tl::expected<T, problem>;

problem make_problem(reason why, std::string message);
problem make_problem(const thole_status &status, thole_code code);

// return fail(reason::JobUnknown, "there is no job {}", name);
template <class... Args>
tl::unexpected<problem> fail(reason why, fmt::format_string<Args...> format, Args &&...args) {
  return tl::unexpected<problem>(make_problem(why, fmt::vformat(format, fmt::make_format_args(args...))));
}

// The same with errno, whose text is appended.
std::string errno_text(int os_errno);
template <class... Args>
tl::unexpected<problem> fail_errno(reason why, int os_errno, fmt::format_string<Args...> format, Args &&...args) {
  std::string message = fmt::vformat(format, fmt::make_format_args(args...));
  return tl::unexpected<problem>(make_problem(why, message + ": " + errno_text(os_errno)));
}

#define THOLE_TRY(expression)                                                                           \
  do {                                                                                                  \
    if (auto thole_try = (expression); !thole_try) return tl::unexpected(std::move(thole_try).error()); \
  } while (false)

#define THOLE_LET_JOIN2(a, b) a##b
#define THOLE_LET_JOIN(a, b) THOLE_LET_JOIN2(a, b)
#define THOLE_LET(declaration, expression) THOLE_LET_(THOLE_LET_JOIN(thole_let_, __LINE__), declaration, expression)
#define THOLE_LET_(temporary, declaration, expression)                 \
  auto temporary = (expression);                                       \
  if (!temporary) return tl::unexpected(std::move(temporary).error()); \
  declaration = std::move(*temporary)

}  // namespace thole::local
