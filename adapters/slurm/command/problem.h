// problem.h: errors as values: a reason of reasons.h for programs, and a sentence for people.
#pragma once

#include <fmt/format.h>
#include <thole/reasons.h>
#include <thole/status.h>

#include <string>
#include <tl/expected.hpp>

namespace thole::slurm {

enum class reason : uint16_t {
#define X(name, code, meaning, remedy) name,
  THOLE_REASONS(X)
#undef X
};

struct problem {
  thole_code code = THOLE_INTERNAL;
  std::string reason;
  std::string message;
};

template <class T = void>
using result = tl::expected<T, problem>;

problem make_problem(reason why, std::string message);
problem make_problem(const thole_status &status, thole_code code);
// The exit codes of docs/reference/cli.md.
int exit_code_of(const problem &p) noexcept;

template <class... Args>
tl::unexpected<problem> fail(reason why, fmt::format_string<Args...> format, Args &&...args) {
  return tl::unexpected<problem>(make_problem(why, fmt::vformat(format, fmt::make_format_args(args...))));
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

}  // namespace thole::slurm
