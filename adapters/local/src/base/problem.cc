#include "base/problem.h"

#include <system_error>

namespace thole::local {
namespace {

struct row {
  std::string_view name;
  thole_code code;
};
constexpr row rows[] = {
#define X(name, code, meaning, remedy) {#name, code},
    THOLE_REASONS(X)
#undef X
};

}  // namespace

problem make_problem(reason why, std::string message) {
  const row &r = rows[static_cast<std::size_t>(why)];
  return {r.code, std::string(r.name), std::move(message), {}};
}

problem make_problem(const thole_status &status, thole_code code) {
  problem p{code, status.reason, status.message, {}};
  if (p.reason.empty()) p.reason = "Defect";
  if (p.message.empty()) p.message = "the core gave no sentence for code " + std::to_string(code);
  return p;
}

std::string errno_text(int os_errno) {
  return std::generic_category().message(os_errno);
}

}  // namespace thole::local
