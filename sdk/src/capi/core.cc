// thole/core.h.
#include <thole/core.h>

#include "base/file.h"
#include "base/text.h"
#include "capi/args.h"
#include "capi/guard.h"
#include "capi/room.h"
#include "capi/tables.h"

namespace thole {

constinit core_handles cores;

thole_code refuse(reason why, uint64_t handle, thole_status *status) noexcept {
  if (why == reason::Forked)
    return report(fail(why, "this process was forked after the core was opened: open a core of its own").value(),
                  status);
  return report(fail(why, "the handle {:#x} is closed, of another kind or of another process", handle).value(), status);
}

namespace {

constexpr uint64_t most_path = 4096;

thole_code open(const thole_core_options *given, thole_core *core, thole_status *status) {
  if (core != nullptr) core->v = 0;
  return guard(status, [&]() -> result<> {
    if (core == nullptr) return fail(reason::ArgumentMissing, "core is NULL");
    thole_core_options options{};
    if (given != nullptr) {
      THOLE_LET(options, take(given, "options"));
    }
    instance_options wanted;
    if (options.log != nullptr) {
      THOLE_LET(const thole_host_log log, take(options.log, "options.log"));
      THOLE_TRY(check_reserved(log.reserved, "options.log"));
      if (log.write == nullptr) return fail(reason::ArgumentMissing, "options.log.write is NULL");
      wanted.log = log_sink(log);
    }
    THOLE_LET(const auto state, take_text(options.state, most_path, "options.state"));
    THOLE_LET(wanted.state, absolute(state));
    THOLE_LET(const auto metrics, take_text(options.metrics, most_path, "options.metrics"));
    THOLE_LET(wanted.metrics, absolute(metrics));
    THOLE_TRY(fork::arm());
    THOLE_LET(auto opened, instance::open(wanted));
    THOLE_LET(core->v, cores.open(std::move(opened)));
    return {};
  });
}

thole_code close(thole_core core, thole_status *status) {
  return guard(status, [&]() -> result<> {
    THOLE_LET(std::unique_ptr<instance> last, cores.close(core.v));
    end_handles_of(core);
    return last->plugins->stop(std::chrono::seconds(2));
  });
}

thole_code load(thole_core core, thole_str folder, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    THOLE_LET(const std::string_view path, take_text(folder, most_path, "folder"));
    if (path.empty()) return fail(reason::ArgumentMissing, "folder is empty");
    return in.plugins->load(std::string(path));
  });
}

thole_code plugins(thole_core core, thole_plugin_list *list, thole_buffer *buffer, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    THOLE_TRY(take(static_cast<const thole_plugin_list *>(list), "list"));
    room r(buffer);
    THOLE_TRY(r.check());
    const auto known = in.plugins->list();
    auto *out = r.array<thole_plugin_info>(known.size());
    for (std::size_t i = 0; i < known.size(); ++i) {
      const auto &p = known[i];
      out[i] = {sizeof(thole_plugin_info), r.text(p.id),     r.text(p.provides), r.text(p.version),
                r.text(p.manifest),        r.text(p.reason), r.text(p.message)};
    }
    THOLE_TRY(r.finish());
    return give(list, thole_plugin_list{0, room::list(out, known.size())}, "list");
  });
}

constexpr thole_core_api table = {sizeof(thole_core_api), open, close, load, plugins, key_new};

}  // namespace

constinit const thole_core_api core_table = table;

}  // namespace thole
