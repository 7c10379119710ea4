// thole/draft/partition.h.
#include <thole/draft/partition.h>

#include "capi/args.h"
#include "capi/guard.h"
#include "capi/room.h"
#include "capi/tables.h"
#include "partition/assign.h"

namespace thole {
namespace {

using partition::backend;

result<partition::granted> take_grant(const thole_list &grants, uint64_t i) {
  THOLE_LET(const thole_grant g, take_at<thole_grant>(grants, i, "placement.grants"));
  partition::granted out;
  THOLE_LET(out.uuid, take_text(g.uuid, partition::most_uuid, "grant.uuid"));
  THOLE_LET(out.mig_profile, take_text(g.mig_profile, partition::most_profile, "grant.mig_profile"));
  out.kind = g.kind;
  out.share_milli = g.share_milli;
  out.memory_mib = g.memory_mib;
  out.mig = g.mig;
  // A name out of the simulator's space is never a real GPU, whatever a host forgot to copy.
  out.simulated = (g.flags & THOLE_GPU_SIMULATED) != 0 || out.uuid.starts_with("SIM-");
  return out;
}

result<partition::member> take_member(const thole_member *given) {
  THOLE_LET(const thole_member m, take(given, "member"));
  THOLE_LET(const thole_placement p, take(m.placement, "member.placement"));
  partition::member out;
  out.gang = from_c(m.gang);
  out.attempt = m.attempt;
  out.generation = m.generation;
  out.index = p.member;
  THOLE_LET(out.role, take_text(m.role, partition::most_name, "member.role"));
  THOLE_LET(out.node, take_text(p.node, partition::most_name, "placement.node"));
  THOLE_TRY(check_list(p.grants, sizeof(uint64_t), partition::most_devices, "placement.grants"));
  for (uint64_t i = 0; i < p.grants.count; ++i) {
    THOLE_LET(auto grant, take_grant(p.grants, i));
    out.devices.push_back(std::move(grant));
  }
  return out;
}

// Pure, like read_record: the core is not looked at.
thole_code assign(thole_core, const thole_member *member, thole_assignment *assignment, thole_buffer *buffer,
                  thole_status *status) {
  return guard(status, [&]() -> result<> {
    room r(buffer);
    THOLE_TRY(r.check());
    THOLE_LET(const partition::member m, take_member(member));
    THOLE_LET(const partition::assignment a, partition::assign(m));
    thole_assignment answer{};
    answer.record = r.text(a.record);
    auto *environment = r.array<thole_str>(a.environment.size());
    for (std::size_t i = 0; i < a.environment.size(); ++i) environment[i] = r.text(a.environment[i]);
    answer.environment = room::list(environment, a.environment.size());
    answer.backend = static_cast<thole_backend>(a.held_by);
    THOLE_TRY(r.finish());
    return give(assignment, answer, "assignment");
  });
}

thole_record_device lay_out(const partition::record_device &d, room &r) {
  thole_record_device out{};
  out.struct_size = sizeof out;
  out.uuid = r.text(d.uuid);
  out.kind = d.kind;
  out.share_milli = d.share_milli;
  out.memory_mib = d.memory_mib;
  out.mig_profile = r.text(d.mig_profile);
  out.mig = d.mig;
  out.backend = static_cast<thole_backend>(d.held_by);
  return out;
}

thole_code read_record(thole_core, thole_str text, thole_record *record, thole_buffer *buffer, thole_status *status) {
  return guard(status, [&]() -> result<> {
    room r(buffer);
    THOLE_TRY(r.check());
    if (text.data == nullptr && text.len > 0)
      return fail(reason::ArgumentMissing, "text.data is NULL with length {}", text.len);
    THOLE_LET(const partition::record known, partition::read(view(text)));
    auto *devices = r.array<thole_record_device>(known.devices.size());
    for (std::size_t i = 0; i < known.devices.size(); ++i) devices[i] = lay_out(known.devices[i], r);
    thole_record answer{};
    answer.gang = to_c(known.gang);
    answer.attempt = known.attempt;
    answer.generation = known.generation;
    answer.node = r.text(known.node);
    answer.role = r.text(known.role);
    answer.member = known.member;
    answer.devices = room::list(devices, known.devices.size());
    THOLE_TRY(r.finish());
    return give(record, answer, "record");
  });
}

constexpr thole_partition_api table = {sizeof(thole_partition_api), assign, read_record};

}  // namespace

constinit const thole_partition_api partition_table = table;

}  // namespace thole
