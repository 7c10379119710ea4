#include "problem.h"

namespace thole::slurm {
namespace {

struct row {
  const char *name;
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
  return {r.code, r.name, std::move(message)};
}

problem make_problem(const thole_status &status, thole_code code) {
  problem p{code, status.reason, status.message};
  if (p.reason.empty()) p.reason = "Defect";
  if (p.message.empty()) p.message = "the core gave no sentence for code " + std::to_string(code);
  return p;
}

int exit_code_of(const problem &p) noexcept {
  switch (p.code) {
    case THOLE_INVALID:
      return 65;
    case THOLE_NOT_FOUND:
      return 66;
    case THOLE_INTERNAL:
      return 70;
    case THOLE_DATA_LOSS:
    case THOLE_EXHAUSTED:
      return 74;
    case THOLE_DENIED:
      return 77;
    default:
      return 69;
  }
}

}  // namespace thole::slurm
