// The partition service from outside: a placement becomes a record and an environment, and the record is read back.
// Its calls are pure and made with no core at all.
#include "host.h"

namespace {

using namespace host;

const std::string one_gpu = "GPU-7f2f9d1e-2b1c-4a0e-9d52-0b7f0e6a1c11";

thole_grant grant_of(const std::string &uuid, thole_device_kind kind, uint32_t flags = 0) {
  auto grant = sized<thole_grant>();
  grant.uuid = str(uuid);
  grant.kind = kind;
  grant.share_milli = kind == THOLE_KIND_WHOLE ? 1000 : 250;
  grant.memory_mib = 10240;
  grant.flags = flags;
  if (kind == THOLE_KIND_MIG) {
    grant.mig_profile = THOLE_STR("1g.18gb");
    grant.mig = {3, 1};
  }
  return grant;
}

// What assign says of these grants; the answer lies in `memory`.
struct assigning {
  lent memory;
  thole_assignment answer = sized<thole_assignment>();
  thole_status status = sized<thole_status>();
  thole_code code;
  explicit assigning(const std::vector<thole_grant> &grants, thole_str role = THOLE_STR("trainer")) {
    auto placement = sized<thole_placement>();
    placement.member = 3;
    placement.ranks = 1;
    placement.node = THOLE_STR("node-a");
    placement.grants = list(grants);
    auto member = sized<thole_member>();
    member.gang = {1, 2};
    member.attempt = 2;
    member.generation = 5;
    member.role = role;
    member.placement = &placement;
    code = root()->partition->assign({}, &member, &answer, &memory.room, &status);
  }
  std::vector<std::string> environment() const {
    std::vector<std::string> out;
    for (uint64_t i = 0; i < answer.environment.count; ++i)
      out.push_back(text(*THOLE_AT(answer.environment, thole_str, i)));
    return out;
  }
};

struct record_read {
  lent memory;
  thole_record answer = sized<thole_record>();
  thole_status status = sized<thole_status>();
  thole_code code;
  explicit record_read(const std::string &record) {
    code = root()->partition->read_record({}, str(record), &answer, &memory.room, &status);
  }
};

TEST(partition, every_backend_is_told_and_the_weakest_counts) {
  const std::string simulated = "SIM-0", instance = "MIG-1";
  const assigning whole({grant_of(one_gpu, THOLE_KIND_WHOLE)});
  ASSERT_EQ(whole.code, THOLE_OK) << whole.status.message;
  EXPECT_EQ(whole.answer.backend, THOLE_BACKEND_EXCLUSIVE);
  const assigning dry({grant_of(simulated, THOLE_KIND_VGPU, THOLE_GPU_SIMULATED)});
  ASSERT_EQ(dry.code, THOLE_OK) << dry.status.message;
  EXPECT_EQ(dry.answer.backend, THOLE_BACKEND_SIMULATED);
  const assigning mixed({grant_of(one_gpu, THOLE_KIND_WHOLE), grant_of(simulated, THOLE_KIND_VGPU, THOLE_GPU_SIMULATED),
                         grant_of(instance, THOLE_KIND_MIG)});
  ASSERT_EQ(mixed.code, THOLE_OK) << mixed.status.message;
  EXPECT_EQ(mixed.answer.backend, THOLE_BACKEND_NONE);
  const assigning nothing({});
  ASSERT_EQ(nothing.code, THOLE_OK) << nothing.status.message;
  EXPECT_EQ(nothing.answer.backend, THOLE_BACKEND_NONE);
}

TEST(partition, the_environment_shows_real_gpus_by_uuid_once) {
  const std::string simulated = "SIM-0";
  const assigning twice({grant_of(one_gpu, THOLE_KIND_VGPU), grant_of(one_gpu, THOLE_KIND_VGPU),
                         grant_of(simulated, THOLE_KIND_VGPU, THOLE_GPU_SIMULATED)});
  ASSERT_EQ(twice.code, THOLE_OK) << twice.status.message;
  EXPECT_EQ(twice.environment(),
            (std::vector<std::string>{"CUDA_VISIBLE_DEVICES=" + one_gpu, "CUDA_DEVICE_ORDER=PCI_BUS_ID"}));
  // Without it CUDA would show all of them.
  const assigning dry({grant_of(simulated, THOLE_KIND_VGPU, THOLE_GPU_SIMULATED)});
  EXPECT_EQ(dry.environment(), std::vector<std::string>{"CUDA_VISIBLE_DEVICES="});
}

TEST(partition, a_record_reads_back_as_it_was_assigned) {
  const std::string instance = "MIG-1";
  const assigning given({grant_of(one_gpu, THOLE_KIND_WHOLE), grant_of(instance, THOLE_KIND_MIG)});
  ASSERT_EQ(given.code, THOLE_OK) << given.status.message;
  const record_read got(text(given.answer.record));
  ASSERT_EQ(got.code, THOLE_OK) << got.status.message;
  EXPECT_EQ(got.answer.gang.hi, 1u);
  EXPECT_EQ(got.answer.gang.lo, 2u);
  EXPECT_EQ(got.answer.attempt, 2u);
  EXPECT_EQ(got.answer.generation, 5u);
  EXPECT_EQ(text(got.answer.node), "node-a");
  EXPECT_EQ(text(got.answer.role), "trainer");
  EXPECT_EQ(got.answer.member, 3u);
  ASSERT_EQ(got.answer.devices.count, 2u);
  const auto *whole = THOLE_AT(got.answer.devices, thole_record_device, 0);
  EXPECT_EQ(text(whole->uuid), one_gpu);
  EXPECT_EQ(whole->kind, THOLE_KIND_WHOLE);
  EXPECT_EQ(whole->share_milli, 1000u);
  EXPECT_EQ(whole->memory_mib, 10240u);
  EXPECT_EQ(whole->backend, THOLE_BACKEND_EXCLUSIVE);
  const auto *mig = THOLE_AT(got.answer.devices, thole_record_device, 1);
  EXPECT_EQ(mig->kind, THOLE_KIND_MIG);
  EXPECT_EQ(text(mig->mig_profile), "1g.18gb");
  EXPECT_EQ(mig->mig.start, 3u);
  EXPECT_EQ(mig->mig.size, 1u);
  EXPECT_EQ(mig->backend, THOLE_BACKEND_NONE);
}

TEST(partition, a_placement_that_cannot_be_written_is_refused) {
  const std::string index = "0", several = one_gpu + "," + one_gpu, made_up = "ABC-1";
  for (const std::string &uuid : {index, several, made_up}) {
    const assigning bad({grant_of(uuid, THOLE_KIND_WHOLE)});
    EXPECT_EQ(bad.code, THOLE_INVALID) << uuid;
    EXPECT_STREQ(bad.status.reason, "PlanBad") << uuid;
  }
  const assigning name({grant_of(one_gpu, THOLE_KIND_WHOLE)}, THOLE_STR("two\nlines"));
  EXPECT_EQ(name.code, THOLE_INVALID);
  EXPECT_STREQ(name.status.reason, "PlanBad");
  const assigning parent({grant_of(one_gpu, THOLE_KIND_MIG)});
  EXPECT_EQ(parent.code, THOLE_UNSUPPORTED);
  EXPECT_STREQ(parent.status.reason, "MigInstanceMissing");
}

TEST(partition, every_altered_byte_of_a_record_is_refused) {
  const assigning given({grant_of(one_gpu, THOLE_KIND_WHOLE)});
  ASSERT_EQ(given.code, THOLE_OK) << given.status.message;
  const std::string record = text(given.answer.record);
  std::size_t refused = 0;
  for (std::size_t i = 0; i < record.size(); ++i) {
    std::string altered = record;
    altered[i] = static_cast<char>(altered[i] ^ 1);
    const record_read bad(altered);
    refused += bad.code == THOLE_DATA_LOSS && std::string(bad.status.reason) == "RecordDamaged";
  }
  EXPECT_EQ(refused, record.size());
  std::printf("%zu of %zu altered records are refused\n", refused, record.size());
  for (std::size_t length = 0; length < record.size(); ++length)
    ASSERT_EQ(record_read(record.substr(0, length)).code, THOLE_DATA_LOSS) << length;
}

// CRC-32 as in gzip: what a later version would close its record with.
std::string sealed(const std::string &body) {
  uint32_t crc = ~0u;
  for (const char c : body) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
  }
  char line[32];
  snprintf(line, sizeof line, "checksum %08x\n", ~crc);
  return body + line;
}

TEST(partition, a_record_of_a_newer_version_is_told_from_a_damaged_one) {
  const record_read newer(sealed("thole-record 2\nwhat a later version says\n"));
  EXPECT_EQ(newer.code, THOLE_UNSUPPORTED) << newer.status.message;
  EXPECT_STREQ(newer.status.reason, "RecordNewer");
  const record_read damaged(sealed("thole-record 1\nwhat no version says\n"));
  EXPECT_EQ(damaged.code, THOLE_DATA_LOSS);
  EXPECT_STREQ(damaged.status.reason, "RecordDamaged");
}

TEST(partition, room_that_is_too_small_says_how_much_is_needed) {
  const assigning given({grant_of(one_gpu, THOLE_KIND_WHOLE)});
  const std::string record = text(given.answer.record);
  uint64_t few[1];
  thole_buffer room{few, sizeof few, 0};
  auto answer = sized<thole_record>();
  EXPECT_EQ(root()->partition->read_record({}, str(record), &answer, &room, nullptr), THOLE_TOO_SMALL);
  ASSERT_GT(room.used, sizeof few);
  std::vector<uint64_t> enough((room.used + 7) / 8);
  room = {enough.data(), enough.size() * 8, 0};
  EXPECT_EQ(root()->partition->read_record({}, str(record), &answer, &room, nullptr), THOLE_OK);
}

}  // namespace
