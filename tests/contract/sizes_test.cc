// Rule A3: every sized struct of every slot, in sizes from nothing to far too much, with a dirty tail, in memory that
// ends where the size says. What the callee reads or writes beyond it is seen by the canary and by the address
// sanitizer.
#include "slots.h"

using namespace host;

namespace {

// A struct of `size` bytes at the end of its own allocation, so that one byte further is somebody else's.
template <class T>
class resized {
 public:
  resized(const T &value, uint64_t size, uint64_t says) : size_(std::max<uint64_t>(size, sizeof(uint64_t))) {
    bytes_ = static_cast<unsigned char *>(malloc(size_ + canary));
    std::memset(bytes_, 0xA5, size_ + canary);
    std::memcpy(bytes_, &value, std::min<uint64_t>(size_, sizeof(T)));
    std::memcpy(bytes_, &says, sizeof says);
  }
  ~resized() { free(bytes_); }
  resized(const resized &) = delete;
  resized &operator=(const resized &) = delete;
  T *get() { return reinterpret_cast<T *>(bytes_); }
  // Whether anything changed from `from` on.
  bool dirtied(uint64_t from) const {
    for (uint64_t i = std::max<uint64_t>(from, sizeof(uint64_t)); i < size_ + canary; ++i)
      if (bytes_[i] != 0xA5) return true;
    return false;
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr uint64_t canary = 0;
#else
  static constexpr uint64_t canary = 64;
#endif
  uint64_t size_;
  unsigned char *bytes_;
};

enum class way { in, out };

struct game {
  std::string name;
  way direction;
  uint64_t full;
  bool may_be_missing;
  // Plays with the struct in `size` bytes of memory that say `says`; tells whether bytes beyond `full` were written.
  std::function<thole_code(uint64_t size, uint64_t says, bool *overrun)> play;
};

template <class T, class F>
game in(const std::string &name, const T &valid, F call) {
  return {name, way::in, sizeof(T), false, [=](uint64_t size, uint64_t says, bool *overrun) {
            resized<T> given(valid, size, says);
            const thole_code code = call(static_cast<const T *>(given.get()));
            *overrun = given.dirtied(std::max<uint64_t>(size, sizeof(T)));
            return code;
          }};
}

template <class T, class F>
game out(const std::string &name, F call) {
  return {name, way::out, sizeof(T), false, [=](uint64_t size, uint64_t says, bool *overrun) {
            T zero{};
            resized<T> given(zero, size, says);
            const thole_code code = call(given.get());
            *overrun = given.dirtied(std::min<uint64_t>(std::max(size, says > 65536 ? 8 : says), sizeof(T))) &&
                       size > sizeof(T);
            if (size <= sizeof(T)) *overrun = given.dirtied(size);
            return code;
          }};
}

std::vector<game> core_games(world &w, lent &m) {
  const auto *t = root()->core;
  auto open = [=](const thole_core_options *options) {
    thole_core core{};
    const thole_code code = t->open(options, &core, nullptr);
    if (code == THOLE_OK) t->close(core, nullptr);
    return code;
  };
  auto log = sized<thole_host_log>();
  log.write = [](void *, thole_log_level, thole_str, thole_str) {};
  return {in("core.open options", sized<thole_core_options>(), open),
          in("core.open options.log", log,
             [=](const thole_host_log *given) {
               auto options = sized<thole_core_options>();
               options.log = given;
               return open(&options);
             }),
          out<thole_plugin_list>("core.plugins list", [&w, &m, t](thole_plugin_list *answer) {
            return t->plugins(w.core, answer, &m.room, nullptr);
          })};
}

std::vector<game> gang_games(world &w, lent &m) {
  const auto *t = root()->gang;
  auto plan_of = [t, &w, &m](const thole_gang_request *request) {
    auto plan = sized<thole_plan>();
    return t->plan(w.core, request, 0, &plan, &m.room, nullptr);
  };
  // A list of one element of any size: the stride grows with it.
  auto roles = [=, &w](const thole_role *role) {
    thole_gang_request request = w.request;
    request.roles = {role, 1, std::max<uint64_t>((role->struct_size + 7) / 8 * 8 % (1 << 20), 8)};
    return plan_of(&request);
  };
  auto topology = sized<thole_topology>();
  topology.level = THOLE_STR("rack");
  topology.mode = THOLE_TOPOLOGY_REQUIRED;
  return {
      in("gang.plan request", w.request, plan_of),
      in("gang.plan request.roles[0]", w.roles[0], roles),
      in("gang.plan request.topology[0]", topology,
         [=, &w](const thole_topology *level) {
           thole_gang_request request = w.request;
           request.topology = {level, 1, std::max<uint64_t>((level->struct_size + 7) / 8 * 8 % (1 << 20), 8)};
           return plan_of(&request);
         }),
      out<thole_plan>("gang.plan plan",
                      [t, &w, &m](thole_plan *plan) { return t->plan(w.core, &w.request, 0, plan, &m.room, nullptr); }),
      in("gang.explain request", w.request,
         [t, &w, &m](const thole_gang_request *request) {
           auto why = sized<thole_explanation>();
           return t->explain(w.core, request, 0, &why, &m.room, nullptr);
         }),
      out<thole_explanation>(
          "gang.explain explanation",
          [t, &w, &m](thole_explanation *why) { return t->explain(w.core, &w.request, 0, why, &m.room, nullptr); }),
      in("gang.set_nodes nodes[0]", w.nodes[0],
         [t, &w](const thole_node *node) {
           const thole_list one{node, 1, std::max<uint64_t>((node->struct_size + 7) / 8 * 8 % (1 << 20), 8)};
           return t->set_nodes(w.core, &one, nullptr);
         }),
      in("gang.gangs query", sized<thole_gang_query>(),
         [t, &w, &m](const thole_gang_query *query) {
           auto plans = sized<thole_plan_list>();
           return t->gangs(w.core, query, &plans, &m.room, nullptr);
         }),
      out<thole_plan_list>("gang.gangs list",
                           [t, &w, &m](thole_plan_list *plans) {
                             const auto query = sized<thole_gang_query>();
                             return t->gangs(w.core, &query, plans, &m.room, nullptr);
                           }),
      out<thole_usage>("gang.usage usage",
                       [t, &w, &m](thole_usage *usage) {
                         const auto query = sized<thole_gang_query>();
                         return t->usage(w.core, &query, usage, &m.room, nullptr);
                       }),
      in("gang.reserve reservation", sized<thole_reservation>(), [t, &w, &m](const thole_reservation *reservation) {
        auto plan = sized<thole_plan>();
        if (t->plan(w.core, &w.request, 0, &plan, &m.room, nullptr) != THOLE_OK) return thole_code{THOLE_INTERNAL};
        const thole_code code = t->reserve(w.core, &w.request, &plan, reservation, nullptr);
        t->release(w.core, w.request.gang, nullptr);
        return code;
      })};
}

std::vector<game> checkpoint_games(world &w, lent &m) {
  const auto *t = root()->checkpoint;
  static const one_tensor tensor;
  static uint64_t step = 0;
  auto begin = [t, &w](const thole_store *store, const thole_save *save) {
    auto ours = sized<thole_save>();
    ours.attempt = 1;
    ours.parts = 1;
    ours.step = ++step;
    thole_writer writer{};
    const thole_code code = t->begin(w.core, store, save == nullptr ? &ours : save, &writer, nullptr);
    if (code == THOLE_OK) t->end(writer, nullptr);
    return code;
  };
  auto save = sized<thole_save>();
  save.attempt = 1;
  save.parts = 1;
  save.step = 1u << 20;
  return {in("checkpoint.begin store", w.store, [=](const thole_store *store) { return begin(store, nullptr); }),
          in("checkpoint.begin save", save, [=, &w](const thole_save *given) { return begin(&w.store, given); }),
          in("checkpoint.begin store.key", w.key,
             [=, &w](const thole_key *key) {
               thole_store store = w.store;
               store.key = key;
               return begin(&store, nullptr);
             }),
          in("checkpoint.put item", tensor.item,
             [t, &w](const thole_item *given) {
               auto ours = sized<thole_save>();
               ours.attempt = 1;
               ours.parts = 1;
               ours.step = ++step;
               thole_writer writer{};
               if (t->begin(w.core, &w.store, &ours, &writer, nullptr) != THOLE_OK) return thole_code{THOLE_INTERNAL};
               const thole_code code = t->put(writer, given, nullptr);
               t->end(writer, nullptr);
               return code;
             }),
          out<thole_fenced>("checkpoint.fence fenced",
                            [t, &w](thole_fenced *fenced) { return t->fence(w.core, &w.store, 1, fenced, nullptr); }),
          out<thole_checkpoint_list>("checkpoint.list list", [t, &w, &m](thole_checkpoint_list *found) {
            return t->list(w.core, &w.store, found, &m.room, nullptr);
          })};
}

// A placement of a whole simulated GPU, and the record that is made of it.
struct one_member {
  thole_grant grant = sized<thole_grant>();
  thole_placement placement = sized<thole_placement>();
  thole_member member = sized<thole_member>();
  one_member() {
    grant.uuid = THOLE_STR("SIM-0");
    grant.kind = THOLE_KIND_WHOLE;
    grant.share_milli = 1000;
    grant.memory_mib = 1024;
    placement.ranks = 1;
    placement.node = THOLE_STR("n0");
    placement.grants = one(grant);
    member.gang = {1, 2};
    member.attempt = member.generation = 1;
    member.role = THOLE_STR("trainer");
    member.placement = &placement;
  }
  one_member(const one_member &) = delete;
  one_member &operator=(const one_member &) = delete;
};

std::vector<game> partition_games(world &, lent &m) {
  static const one_member given;  // its parts point to one another
  const auto *t = root()->partition;
  const auto assign = [t](const thole_member *member, thole_assignment *assignment, lent &room) {
    return t->assign({}, member, assignment, &room.room, nullptr);
  };
  return {in("partition.assign member", given.member,
             [=, &m](const thole_member *member) {
               auto assignment = sized<thole_assignment>();
               return assign(member, &assignment, m);
             }),
          in("partition.assign member.placement", given.placement,
             [=, &m](const thole_placement *placement) {
               thole_member member = given.member;
               member.placement = placement;
               auto assignment = sized<thole_assignment>();
               return assign(&member, &assignment, m);
             }),
          out<thole_assignment>("partition.assign assignment",
                                [=, &m](thole_assignment *assignment) { return assign(&given.member, assignment, m); }),
          out<thole_record>("partition.read_record record", [=, &m](thole_record *record) {
            lent own;
            auto assignment = sized<thole_assignment>();
            const thole_code code = assign(&given.member, &assignment, own);
            return code != THOLE_OK ? code : t->read_record({}, assignment.record, record, &m.room, nullptr);
          })};
}

std::vector<game> draft_games(world &w, lent &m) {
  const thole_root *r = root();
  auto incident = sized<thole_incident>();
  incident.kind = THOLE_INCIDENT_SIGNAL;
  incident.attempt = 1;
  auto decide = [r, &m](const thole_incident *given, const thole_recovery_policy *policy, thole_decision *decision) {
    const thole_list history{given, 1, std::max<uint64_t>((given->struct_size + 7) / 8 * 8 % (1 << 20), 8)};
    return r->recovery->decide({}, &history, policy, decision, &m.room, nullptr);
  };
  auto family = sized<thole_family>();
  family.name = THOLE_STR("contract_sizes");
  family.help = THOLE_STR("Sizes.");
  family.kind = THOLE_METRIC_COUNTER;
  return {out<thole_document>("job.read document",
                              [r, &m](thole_document *document) {
                                return r->job->read({}, job_text(), {}, document, &m.room, nullptr);
                              }),
          in("recovery.decide policy", sized<thole_recovery_policy>(),
             [=](const thole_recovery_policy *policy) {
               auto decision = sized<thole_decision>();
               return decide(&incident, policy, &decision);
             }),
          in("recovery.decide history[0]", incident,
             [=](const thole_incident *given) {
               const auto policy = sized<thole_recovery_policy>();
               auto decision = sized<thole_decision>();
               return decide(given, &policy, &decision);
             }),
          out<thole_decision>("recovery.decide decision",
                              [=](thole_decision *decision) {
                                const auto policy = sized<thole_recovery_policy>();
                                return decide(&incident, &policy, decision);
                              }),
          in("metrics.define definition", family, [r, &w](const thole_family *given) {
            uint32_t number = 0;
            return r->metrics->define(w.core, given, &number, nullptr);
          })};
}

class sizes : public testing::Test {
 protected:
  void SetUp() override {
    w.open();
    w.make_key();
    for (auto group : {core_games, gang_games, checkpoint_games, partition_games, draft_games})
      for (auto &one : group(w, m)) games.push_back(std::move(one));
  }
  world w;
  lent m;
  std::vector<game> games;
};

TEST_F(sizes, as_compiled_works) {
  for (const auto &g : games) {
    bool overrun = false;
    EXPECT_EQ(g.play(g.full, g.full, &overrun), THOLE_OK) << g.name;
    EXPECT_FALSE(overrun) << g.name;
  }
  printf("%zu structs\n", games.size());
}

TEST_F(sizes, too_small_or_not_set_is_refused) {
  for (const auto &g : games)
    for (const uint64_t says : {uint64_t{0}, uint64_t{1}, uint64_t{7}, uint64_t{1} << 40, UINT64_MAX}) {
      bool overrun = false;
      EXPECT_EQ(g.play(g.full, says, &overrun), THOLE_INVALID) << g.name << " says " << says;
      EXPECT_FALSE(overrun && g.direction == way::in) << g.name << " says " << says;
    }
}

TEST_F(sizes, one_that_ends_inside_a_field_is_refused) {
  std::size_t refused = 0;
  for (const game &g : games) {
    bool overrun = false;
    const bool is_refused = g.play(g.full - 4, g.full - 4, &overrun) == THOLE_INVALID;
    EXPECT_TRUE(is_refused) << g.name;
    refused += is_refused ? 1 : 0;
  }
  printf("%zu of %zu structs\n", refused, games.size());
}

TEST_F(sizes, every_older_size_is_read_and_written_no_further) {
  int tried = 0;
  for (const auto &g : games)
    for (uint64_t size = 8; size < g.full; size += 8, ++tried) {
      bool overrun = false;
      g.play(size, size, &overrun);  // what it answers depends on the field that is missing
      EXPECT_FALSE(overrun) << g.name << " of " << size << " bytes";
    }
  printf("%d sizes\n", tried);
}

TEST_F(sizes, a_newer_size_with_a_dirty_tail_works) {
  for (const auto &g : games)
    for (const uint64_t more : {8u, 64u, 1024u}) {
      bool overrun = false;
      EXPECT_EQ(g.play(g.full + more, g.full + more, &overrun), THOLE_OK) << g.name << " + " << more;
      EXPECT_FALSE(overrun) << g.name << " + " << more;
    }
}

TEST_F(sizes, lists_of_impossible_shape_are_refused) {
  const auto *t = root()->gang;
  const thole_node &node = w.nodes[0];
  int tried = 0;
  for (const thole_list &bad : {thole_list{nullptr, 1, sizeof node}, thole_list{&node, 1, 0}, thole_list{&node, 1, 4},
                                thole_list{&node, 1, sizeof node - 8}, thole_list{&node, 1, sizeof node + 1},
                                thole_list{&node, UINT64_MAX, sizeof node}, thole_list{&node, 1, UINT64_MAX & ~7ull},
                                thole_list{reinterpret_cast<const char *>(&node) + 1, 1, sizeof node}}) {
    thole_status status = sized<thole_status>();
    EXPECT_EQ(t->set_nodes(w.core, &bad, &status), THOLE_INVALID) << tried << ": " << status.message;
    ++tried;
  }
  const thole_list empty{nullptr, 0, 0};
  EXPECT_EQ(t->set_nodes(w.core, &empty, nullptr), THOLE_OK);
}

TEST_F(sizes, too_little_room_says_how_much_and_changes_nothing) {
  const auto *t = root()->gang;
  auto plan = sized<thole_plan>();
  thole_buffer none{nullptr, 0, 0};
  thole_status status = sized<thole_status>();
  ASSERT_EQ(t->plan(w.core, &w.request, 0, &plan, &none, &status), THOLE_TOO_SMALL);
  ASSERT_GT(none.used, 0u);
  EXPECT_EQ(plan.placements.count, 0u) << "an out struct is left alone on failure";
  std::vector<uint64_t> exactly(none.used / 8);
  for (uint64_t size = 0; size < none.used; size += 8) {
    std::vector<unsigned char> guarded(size + 72, 0xA5);
    auto *aligned =
        reinterpret_cast<unsigned char *>((reinterpret_cast<uintptr_t>(guarded.data()) + 7) & ~uintptr_t{7});
    thole_buffer small{aligned, size, 0};
    ASSERT_EQ(t->plan(w.core, &w.request, 0, &plan, &small, nullptr), THOLE_TOO_SMALL) << size;
    ASSERT_EQ(small.used, none.used);
    for (uint64_t i = size; i < size + 64; ++i) ASSERT_EQ(aligned[i], 0xA5) << size;
  }
  thole_buffer fits{exactly.data(), none.used, 0};
  ASSERT_EQ(t->plan(w.core, &w.request, 0, &plan, &fits, &status), THOLE_OK) << status.message;
  EXPECT_EQ(plan.placements.count, 4u);
  const auto *begin = reinterpret_cast<const char *>(exactly.data());
  const auto *first = static_cast<const char *>(plan.placements.data);
  EXPECT_TRUE(first >= begin && first < begin + fits.size) << "the answer lies in the caller's memory";
}

}  // namespace
