// thole/draft/device.h.
#include <thole/draft/device.h>

#include <string>
#include <vector>

#include "capi/args.h"
#include "capi/guard.h"
#include "capi/room.h"
#include "capi/tables.h"

namespace thole {
namespace {

constexpr uint64_t most_id = 128;
constexpr uint64_t most_options = 1 << 20;

thole_mig_profile lay_out(const loader::mig_profile &p, room &r) {
  auto *places = r.array<thole_mig_place>(p.placements.size());
  std::copy(p.placements.begin(), p.placements.end(), places);
  return {sizeof(thole_mig_profile),
          r.text(p.name),
          p.memory_mib,
          p.count,
          p.share_milli,
          room::list(places, p.placements.size())};
}

thole_gpu lay_out(const loader::gpu &g, room &r) {
  auto *profiles = r.array<thole_mig_profile>(g.mig.size());
  for (std::size_t i = 0; i < g.mig.size(); ++i) profiles[i] = lay_out(g.mig[i], r);
  return {sizeof(thole_gpu), r.text(g.uuid), r.text(g.model), g.memory_mib,
          g.context_mib,     g.flags,        g.max_vgpus,     room::list(profiles, g.mig.size())};
}

thole_code list(thole_core core, thole_str plugin, thole_str options, thole_gpu_list *gpus, thole_buffer *buffer,
                thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    room r(buffer);
    THOLE_TRY(r.check());
    THOLE_LET(const std::string_view id, take_text(plugin, most_id, "plugin"));
    THOLE_LET(std::string_view wanted, take_text(options, most_options, "options"));
    if (wanted.empty()) wanted = "{}";
    THOLE_LET(const std::vector<loader::gpu> found, in.plugins->gpus(id, wanted));
    auto *out = r.array<thole_gpu>(found.size());
    for (std::size_t i = 0; i < found.size(); ++i) out[i] = lay_out(found[i], r);
    THOLE_TRY(r.finish());
    return give(gpus, thole_gpu_list{0, room::list(out, found.size())}, "gpus");
  });
}

constexpr thole_device_api table = {sizeof(thole_device_api), list};

}  // namespace

constinit const thole_device_api device_table = table;

}  // namespace thole
