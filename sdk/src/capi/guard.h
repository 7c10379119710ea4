// capi/guard.h: what every slot of every table goes through: nothing is thrown out, and every handle is checked.
#pragma once

#include <new>
#include <utility>

#include "base/status.h"
#include "capi/handle.h"
#include "core/instance.h"

namespace thole {

using core_handles = handle_table<instance, 1, 256>;
extern core_handles cores;

// Runs `f`, which answers result<>, and turns whatever comes out of it into a code and a status.
template <class F>
[[gnu::always_inline]] inline thole_code guard(thole_status *status, F &&f) noexcept {
  try {
    result<> done = std::forward<F>(f)();
    if (done) [[likely]]
      return THOLE_OK;
    return report(done.error(), status);
  } catch (const std::bad_alloc &) {
    return report(fail(reason::OutOfMemory, "memory is out").value(), status);
  } catch (const std::exception &e) {
    return report(fail(reason::Defect, "unexpected: {}", e.what()).value(), status);
  } catch (...) {
    return report(fail(reason::Defect, "unexpected exception of an unknown type").value(), status);
  }
}

thole_code refuse(reason why, uint64_t handle, thole_status *status) noexcept;

// The same for a slot that takes a core: f(instance &).
template <class F>
[[gnu::always_inline]] inline thole_code with_core(thole_core core, thole_status *status, F &&f) noexcept {
  reason why{};
  auto pin = cores.enter(core.v, &why);
  if (!core_handles::entered(pin)) [[unlikely]]
    return refuse(why, core.v, status);
  return guard(status, [&]() -> result<> { return f(*pin); });
}

}  // namespace thole
