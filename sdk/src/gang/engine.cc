#include "gang/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <set>

namespace thole::gang {

using model::gang_plan;
using model::gang_request;
using model::gang_state;

namespace {
constexpr uint32_t journal_version = 1;

uint32_t flags_of(const model::gpu &g) {
  return g.flags | (g.overcommitted() ? THOLE_GPU_OVERCOMMITTED : 0);
}
}  // namespace

// --- locks, journal, log

result<std::unique_ptr<engine>> engine::open(const std::string &state_folder, const log_sink &log,
                                             uint64_t compact_from) {
  std::unique_ptr<engine> e(new engine(log, compact_from));
  if (state_folder.empty()) return e;
  THOLE_LET(e->journal_, journal::open(state_folder, "gang", journal_version));
  // Made and mended now, so that what is wrong with it is said by open.
  THOLE_TRY(e->changing([] { return result<>{}; }));
  return e;
}

result<> engine::catch_up(const journal::hold &held, journal::access how) {
  if (broken_) return tl::unexpected(*broken_);
  const journal::reader to{[this] { state_.reset(); },
                           [this](std::string_view record) { return replay(state_, record); }};
  auto done = journal_->catch_up(held, how, to);
  if (!done && (done.error().code() == THOLE_DATA_LOSS || done.error().code() == THOLE_UNSUPPORTED))
    broken_ = done.error();  // the ledger may be half of something: no call goes on with it
  if (done && journal_->cut_off() && how == journal::access::write)
    tell_ = "the journal ended in an unfinished record, which was cut off: its call was never answered";
  return done;
}

// Written down first, then made: what cannot be written has not happened, and what is written has. If memory is out
// for making it, the next call makes it out of the journal before it does anything else.
result<> engine::commit(const change &what) {
  const uint64_t revision = state_.revision() + 1;
  if (!journal_) {
    apply(state_, what, revision);
    return {};
  }
  THOLE_TRY(journal_->append(*held_, encode(what, revision, state_.words())));
  try {
    apply(state_, what, revision);
    journal_->pass();
    if (journal_->size() > std::max(compact_from_, compact_next_)) compact();
  } catch (const std::bad_alloc &) {
    return {};
  }
  return {};
}

void engine::compact() {
  state_.settle();
  const std::string snapshot = encode_snapshot(state_);
  compact_next_ = 4 * snapshot.size();
  if (journal_->size() <= compact_next_) return;
  if (auto done = journal_->rewrite(*held_, snapshot); !done)
    tell_ = fmt::format("the journal could not be made shorter: {}", done.error().text());
}

// --- what there is

result<> engine::set_levels(std::vector<std::string> levels) {
  THOLE_TRY(model::check_levels(levels));
  return changing([&]() -> result<> {
    state_.tidy();
    if (state_.levels() == levels && (state_.levels_are_set() || levels.empty())) return {};
    if (state_.levels_are_set() || state_.nodes_there() > 0)
      return fail(reason::LevelsDiffer, "the levels are {}: name the same ones, or start with a new ledger",
                  state_.levels().empty() ? "none" : fmt::format("{}", fmt::join(state_.levels(), ", ")));
    return commit(levels_named{std::move(levels)});
  });
}

// Devices are known by their uuid wherever they are: none may be on two nodes.
result<> engine::check_nodes(const std::vector<model::node> &nodes) const {
  std::set<std::string_view> names, uuids;
  for (const model::node &n : nodes) {
    THOLE_TRY(model::check(n, state_.levels().size()));
    if (!names.insert(n.name).second) return fail(reason::NodeBad, "node {} is described twice", n.name);
    for (const model::device &d : n.devices)
      if (!uuids.insert(d.uuid).second) return fail(reason::NodeBad, "device {} is listed twice", d.uuid);
  }
  for (const model::node &n : nodes)
    for (const model::device &d : n.devices) {
      const uint32_t home = state_.home_of(d.uuid);
      if (home == ledger::no_node || state_.known(home).spec.name == n.name) continue;
      // It may move, if its old node is described anew without it and nothing of it is held there.
      const bool leaves = names.contains(state_.known(home).spec.name);
      const uint32_t at = state_.find_device(home, d.uuid);
      if (!leaves || state_.at(home).gpus[at].holders() > 0)
        return fail(reason::NodeBad, "device {} of node {} is on node {} already", d.uuid, n.name,
                    state_.known(home).spec.name);
    }
  return {};
}

result<> engine::set_nodes(std::vector<model::node> nodes) {
  return changing([&]() -> result<> {
    state_.tidy();
    THOLE_TRY(check_nodes(nodes));
    std::erase_if(nodes, [&](const model::node &n) {
      const uint32_t at = state_.find_node(n.name);
      return at != ledger::no_node && state_.known(at).spec == n && !state_.known(at).leaving;
    });
    const auto fresh = std::count_if(nodes.begin(), nodes.end(),
                                     [&](const model::node &n) { return state_.find_node(n.name) == ledger::no_node; });
    if (state_.nodes_there() + static_cast<uint64_t>(fresh) > THOLE_MAX_NODES)
      return fail(reason::OverBound, "there would be {} nodes; {} are the most", state_.nodes_there() + fresh,
                  THOLE_MAX_NODES);
    return nodes.empty() ? result<>{} : commit(nodes_described{std::move(nodes)});
  });
}

result<> engine::remove_node(std::string_view name) {
  return changing([&]() -> result<> {
    if (journal_) state_.settle();  // its record names the node by where it stands
    else state_.tidy();
    const uint32_t node = state_.find_node(name);
    return node == ledger::no_node || state_.known(node).leaving ? result<>{} : commit(node_removed{node});
  });
}

// --- requests

result<std::pair<int, int>> engine::compile_levels(const std::vector<model::nearness> &wishes,
                                                   std::string_view whose) const {
  int widest = model::cluster_level, narrowest = model::cluster_level, last = model::cluster_level;
  for (const model::nearness &w : wishes) {
    const auto level = state_.topology().level(w.level);
    if (!level)
      return fail(reason::TopologyUnknown, "{}: there is no topology level {}; there are {}{}node", whose, w.level,
                  fmt::join(state_.levels(), ", "), state_.levels().empty() ? "" : ", ");
    if (*level <= last)
      return fail(reason::RequestBad,
                  "{}: topology level {} does not come after a wider one: name them from outer to "
                  "inner, each once",
                  whose, w.level);
    last = *level;
    if (w.required) widest = *level;
    narrowest = *level;
  }
  // A preference that is wider than what is required is met by it.
  return std::pair{widest, std::max(widest, narrowest)};
}

result<wanted> engine::compile(const gang_request &request) {
  wanted out;
  THOLE_LET(const auto levels, compile_levels(request.topology, "the gang"));
  std::tie(out.widest, out.narrowest) = levels;
  for (const model::role &r : request.roles) {
    wanted_role &w = out.roles.emplace_back();
    THOLE_LET(const auto own, compile_levels(r.topology, r.name));
    std::tie(w.widest, w.narrowest) = own;
    w.least = r.min_members;
    w.most = r.members;
    w.ranks = r.ranks_per_member;
    w.want.devices = r.devices;
    w.want.cpu_milli = static_cast<int64_t>(r.cpu_milli);
    w.want.memory_mib = static_cast<int64_t>(r.memory_mib);
    w.want.device = {r.kind, 0, 0, r.share_milli, static_cast<int64_t>(r.vgpu_memory_mib)};
    // A name that nobody has used is no_name: it is found nowhere, and nothing is remembered of it.
    if (!r.gpu_model.empty()) w.want.device.model = state_.words().find(r.gpu_model);
    if (!r.mig_profile.empty()) w.want.device.profile = state_.words().find(r.mig_profile);
    if (!r.label.empty()) w.want.label = state_.words().find(r.label);
  }
  return out;
}

std::vector<id128> engine::expired(int64_t now_ns) const {
  std::vector<id128> out;
  for (const auto &[expires, id] : state_.expiring()) {
    if (expires > now_ns) break;
    out.push_back(id);
  }
  std::sort(out.begin(), out.end());
  return out;
}

void engine::give_back_expired(int64_t now_ns) {
  for (id128 id : expired(now_ns)) state_.give_back(state_.gangs().at(id));
}

const holding *engine::live(id128 gang, int64_t now_ns) const {
  const auto it = state_.gangs().find(gang);
  return it == state_.gangs().end() || it->second.expired(now_ns) ? nullptr : &it->second;
}

// Members in the order of the topology, so that ranks that follow one another are near one another.
holding engine::number(const wanted &what, const found &places) const {
  std::vector<piece> pieces = places.pieces;
  const model::topology &tree = state_.topology();
  std::stable_sort(pieces.begin(), pieces.end(), [&](const piece &a, const piece &b) {
    return std::pair{a.role, tree.order(a.node)} < std::pair{b.role, tree.order(b.node)};
  });
  holding h;
  h.members.reserve(pieces.size());
  h.grants.reserve(places.grants.size());
  uint32_t member = 0;
  for (const piece &p : pieces) {
    const wanted_role &r = what.roles[p.role];
    if (h.members.empty() || h.members.back().role != p.role) member = 0;
    h.members.push_back({p.role, member++, h.ranks, r.ranks, p.node, static_cast<uint32_t>(h.grants.size()), p.grants,
                         r.want.cpu_milli, r.want.memory_mib});
    const auto from = places.grants.begin() + p.first_grant;
    h.grants.insert(h.grants.end(), from, from + p.grants);
    h.ranks += r.ranks;
  }
  return h;
}

gang_plan engine::describe(id128 gang, const holding &h) const {
  gang_plan out{gang, h.state, h.ranks, state_.revision(), h.expires_ns, {}, {}};
  const names &words = state_.words();
  out.placements.reserve(h.members.size());
  out.grants.reserve(h.grants.size());
  for (const held_member &m : h.members) {
    const auto &uuids = state_.known(m.node).uuids;
    out.placements.push_back({m.role, m.member, m.first_rank, m.ranks, words.text(state_.at(m.node).name),
                              static_cast<uint32_t>(out.grants.size()), m.grants});
    for (const model::grant &g : h.of(m)) {
      const model::gpu &gpu = state_.at(m.node).gpus[g.device];
      out.grants.push_back({words.text(uuids[g.device]), g.kind, g.share_milli, static_cast<uint64_t>(g.memory_mib),
                            words.text(g.profile), g.mig, flags_of(gpu), static_cast<uint64_t>(gpu.context_mib)});
    }
  }
  return out;
}

result<gang_plan> engine::plan(const gang_request &request, int64_t now_ns) {
  return reading([&]() -> result<gang_plan> {
    state_.settle();
    THOLE_LET(const wanted what, compile(request));
    if (live(request.gang, now_ns) != nullptr)
      return fail(reason::GangExists, "gang {} holds something already: release it, or use another id",
                  to_text(request.gang));
    const attempt trial(state_);
    give_back_expired(now_ns);
    search s(state_, memory_, what);
    const verdict v = s.run();
    if (v == verdict::yes) return describe(request.gang, number(what, s.result()));
    const explanation why = gang::explain({state_, memory_, empty_}, what, request, v, detail::sentence);
    return fail(why.why, "{}", why.message);
  });
}

result<explanation> engine::explain(const gang_request &request, int64_t now_ns) {
  return reading([&]() -> result<explanation> {
    state_.settle();
    THOLE_LET(const wanted what, compile(request));
    const attempt trial(state_);
    give_back_expired(now_ns);
    search s(state_, memory_, what);
    const verdict v = s.run();
    if (v != verdict::yes) return gang::explain({state_, memory_, empty_}, what, request, v, detail::all);
    explanation yes;
    yes.fits = true;
    return yes;
  });
}

// --- what is held

result<> engine::confirm(id128 gang, int64_t now_ns) {
  return changing([&]() -> result<> {
    const holding *h = live(gang, now_ns);
    if (h == nullptr)
      return fail(reason::GangUnknown, "gang {} holds nothing: it was never reserved, or was cancelled, or has expired",
                  to_text(gang));
    return h->state == gang_state::confirmed ? result<>{} : commit(gang_was_confirmed{gang});
  });
}

result<> engine::cancel(id128 gang) {
  return changing([&]() -> result<> {
    const auto it = state_.gangs().find(gang);
    if (it == state_.gangs().end()) return {};
    if (it->second.state == gang_state::confirmed)
      return fail(reason::GangConfirmed, "gang {} is confirmed: use release", to_text(gang));
    return commit(gang_dropped{gang});
  });
}

result<> engine::release(id128 gang) {
  return changing(
      [&]() -> result<> { return state_.gangs().contains(gang) ? commit(gang_dropped{gang}) : result<>{}; });
}

result<std::vector<gang_plan>> engine::gangs(id128 gang, std::string_view node, int64_t now_ns) {
  return reading([&]() -> result<std::vector<gang_plan>> {
    state_.settle();
    std::vector<gang_plan> out;
    const uint32_t at = state_.find_node(node);
    const auto wanted = [&](const holding &h) {
      if (h.expired(now_ns)) return false;
      return node.empty() ||
             std::any_of(h.members.begin(), h.members.end(), [&](const held_member &m) { return m.node == at; });
    };
    if (gang) {
      const auto it = state_.gangs().find(gang);
      if (it == state_.gangs().end() || !wanted(it->second))
        return fail(reason::GangUnknown, "gang {} holds nothing{}{}", to_text(gang), node.empty() ? "" : " on node ",
                    node);
      out.push_back(describe(gang, it->second));
      return out;
    }
    for (const auto &[id, h] : state_.gangs())
      if (wanted(h)) out.push_back(describe(id, h));
    return out;
  });
}

result<usage> engine::usage(std::string_view node, int64_t now_ns) {
  return reading([&]() -> result<gang::usage> {
    state_.settle();
    gang::usage out{state_.revision(), state_.digest(now_ns), {}};
    const attempt trial(state_);
    give_back_expired(now_ns);
    const names &words = state_.words();
    const uint32_t only = state_.find_node(node);
    for (uint32_t n = 0; n < state_.nodes(); ++n) {
      if (!node.empty() && n != only) continue;
      const model::machine &m = state_.at(n);
      for (uint32_t i = 0; i < m.gpus.size(); ++i) {
        const model::gpu &g = m.gpus[i];
        const bool full = g.overcommitted() || g.wholes > 0;
        out.devices.push_back(
            {words.text(m.name), words.text(state_.known(n).uuids[i]), words.text(g.model), flags_of(g), g.holders(),
             static_cast<uint64_t>(g.memory_mib), static_cast<uint64_t>(full ? 0 : std::max<int64_t>(0, g.hole_mib())),
             static_cast<uint32_t>(full ? 0 : std::max<int64_t>(0, model::whole_share - g.used_share))});
      }
    }
    return out;
  });
}

}  // namespace thole::gang
