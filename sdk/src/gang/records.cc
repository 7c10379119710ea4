#include "gang/records.h"

#include <journal.pb.h>

#include "base/repeated.h"

namespace thole::gang {

namespace {

constexpr auto newer = "a record of the journal says what this version does not know: use a newer Thole";

template <class... F>
struct overloaded : F... {
  using F::operator()...;
};
template <class... F>
overloaded(F...) -> overloaded<F...>;  // clang 16 does not deduce it

// --- to bytes

void put(id128 id, v1::JournalId *to) {
  to->set_hi(id.hi);
  to->set_lo(id.lo);
}

void put(const model::device &d, v1::JournalDevice *to) {
  to->set_uuid(d.uuid);
  to->set_model(d.model);
  to->set_memory_mib(d.memory_mib);
  to->set_context_mib(d.context_mib);
  to->set_flags(d.flags);
  to->set_max_vgpus(d.max_vgpus);
  for (const model::mig_profile &p : d.mig) {
    v1::JournalProfile *out = next(to->mutable_mig());
    out->set_name(p.name);
    out->set_memory_mib(p.memory_mib);
    out->set_count(p.count);
    out->set_share_milli(p.share_milli);
    for (const model::mig_placement &at : p.placements) {
      v1::JournalPlacement *place = next(out->mutable_placements());
      place->set_start(at.start);
      place->set_size(at.size);
    }
  }
}

void put(const model::node &n, v1::JournalNode *to) {
  to->set_name(n.name);
  for (const std::string &d : n.domains) *next(to->mutable_domains()) = d;
  to->set_cpu_milli(n.cpu_milli);
  to->set_memory_mib(n.memory_mib);
  to->set_flags(n.flags);
  for (const model::device &d : n.devices) put(d, next(to->mutable_devices()));
  for (const std::string &l : n.labels) *next(to->mutable_labels()) = l;
}

void put(id128 id, const holding &h, const names &words, v1::JournalGang *to) {
  put(id, to->mutable_id());
  to->set_state(static_cast<uint32_t>(h.state));
  to->set_expires_ns(h.expires_ns);
  to->set_ranks(h.ranks);
  for (const held_member &m : h.members) {
    v1::JournalMember *out = next(to->mutable_members());
    out->set_role(m.role);
    out->set_member(m.member);
    out->set_first_rank(m.first_rank);
    out->set_ranks(m.ranks);
    out->set_node(m.node);
    out->set_cpu_milli(m.cpu_milli);
    out->set_memory_mib(m.memory_mib);
    for (const model::grant &g : h.of(m)) {
      v1::JournalGrant *grant = next(out->mutable_grants());
      grant->set_device(g.device);
      grant->set_kind(static_cast<uint32_t>(g.kind));
      grant->set_share_milli(g.share_milli);
      grant->set_memory_mib(g.memory_mib);
      grant->set_charged_mib(g.charged_mib);
      if (g.kind != model::device_kind::mig) continue;
      grant->set_profile(std::string(words.text(g.profile)));
      grant->mutable_mig()->set_start(g.mig.start);
      grant->mutable_mig()->set_size(g.mig.size);
    }
  }
}

void put(const std::vector<std::string> &levels, bool set, v1::JournalLevels *to) {
  for (const std::string &l : levels) *next(to->mutable_names()) = l;
  to->set_set(set);
}

// --- from bytes

id128 get(const v1::JournalId &from) {
  return {from.hi(), from.lo()};
}

model::device get(const v1::JournalDevice &from) {
  model::device d{from.uuid(), from.model(), from.memory_mib(), from.context_mib(), from.flags(), from.max_vgpus(), {}};
  for (const v1::JournalProfile &p : from.mig()) {
    model::mig_profile &out = d.mig.emplace_back();
    out.name = p.name();
    out.memory_mib = p.memory_mib();
    out.count = p.count();
    out.share_milli = p.share_milli();
    for (const v1::JournalPlacement &at : p.placements()) out.placements.push_back({at.start(), at.size()});
  }
  return d;
}

model::node get(const v1::JournalNode &from) {
  model::node n{from.name(), {}, from.cpu_milli(), from.memory_mib(), from.flags(), {}, {}};
  n.domains.assign(from.domains().begin(), from.domains().end());
  for (const v1::JournalDevice &d : from.devices()) n.devices.push_back(get(d));
  n.labels.assign(from.labels().begin(), from.labels().end());
  return n;
}

result<> check_node(const model::node &n, std::size_t levels) {
  if (auto good = model::check(n, levels); !good)
    return fail(reason::JournalDamaged, "the journal describes an impossible node: {}", good.error().text());
  return {};
}

// A gang of a record, checked against the nodes that the ledger has.
result<holding> get(const v1::JournalGang &from, ledger &state) {
  holding h;
  if (from.state() != THOLE_GANG_RESERVED && from.state() != THOLE_GANG_CONFIRMED)
    return fail(reason::StateNewer, "{}", newer);
  h.state = static_cast<model::gang_state>(from.state());
  h.expires_ns = from.expires_ns();
  h.ranks = from.ranks();
  for (const v1::JournalMember &m : from.members()) {
    if (m.node() >= state.nodes())
      return fail(reason::JournalDamaged, "the journal places a member on node {} of {}", m.node(), state.nodes());
    held_member out{m.role(),
                    m.member(),
                    m.first_rank(),
                    m.ranks(),
                    m.node(),
                    static_cast<uint32_t>(h.grants.size()),
                    static_cast<uint32_t>(m.grants_size()),
                    m.cpu_milli(),
                    m.memory_mib()};
    h.members.push_back(out);
    for (const v1::JournalGrant &g : m.grants()) {
      if (g.kind() < THOLE_KIND_WHOLE || g.kind() > THOLE_KIND_MIG) return fail(reason::StateNewer, "{}", newer);
      if (g.device() >= state.at(m.node()).gpus.size() || g.mig().start() + uint64_t{g.mig().size()} > 64)
        return fail(reason::JournalDamaged, "the journal grants device {}, which its node does not have", g.device());
      h.grants.push_back({g.device(),
                          static_cast<model::device_kind>(g.kind()),
                          g.share_milli(),
                          g.profile().empty() ? 0 : state.words().intern(g.profile()),
                          {g.mig().start(), g.mig().size()},
                          g.memory_mib(),
                          g.charged_mib()});
    }
  }
  return h;
}

}  // namespace

std::string encode(const change &what, uint64_t revision, const names &words) {
  v1::JournalRecord record;
  record.set_revision(revision);
  std::visit(overloaded{
                 [&](const levels_named &c) { put(c.levels, true, record.mutable_levels()); },
                 [&](const nodes_described &c) {
                   for (const model::node &n : c.nodes) put(n, next(record.mutable_nodes()->mutable_nodes()));
                 },
                 [&](const node_removed &c) { record.set_remove_node(c.node); },
                 [&](const gang_reserved &c) {
                   put(c.gang, c.what, words, record.mutable_reserve()->mutable_gang());
                   for (id128 id : c.dropped) put(id, next(record.mutable_reserve()->mutable_dropped()));
                 },
                 [&](const gang_was_confirmed &c) { put(c.gang, record.mutable_confirm()); },
                 [&](const expiry_set &c) {
                   put(c.gang, record.mutable_expiry()->mutable_gang());
                   record.mutable_expiry()->set_expires_ns(c.expires_ns);
                 },
                 [&](const gang_dropped &c) { put(c.gang, record.mutable_drop()); },
             },
             what);
  return record.SerializeAsString();
}

std::string encode_snapshot(const ledger &state) {
  v1::JournalRecord record;
  record.set_revision(state.revision());
  v1::JournalSnapshot *out = record.mutable_snapshot();
  put(state.levels(), state.levels_are_set(), out->mutable_levels());
  for (uint32_t n = 0; n < state.nodes(); ++n) {
    v1::JournalNode *node = next(out->mutable_nodes());
    put(state.known(n).spec, node);
    for (const model::device &d : state.known(n).kept) put(d, next(node->mutable_kept()));
    node->set_leaving(state.known(n).leaving);
  }
  for (const auto &[id, h] : state.gangs()) put(id, h, state.words(), next(out->mutable_gangs()));
  return record.SerializeAsString();
}

void apply(ledger &to, const change &what, uint64_t revision) {
  std::visit(overloaded{
                 [&](const levels_named &c) { to.apply_levels(c.levels); },
                 [&](const nodes_described &c) { to.apply_nodes(c.nodes); },
                 [&](const node_removed &c) { to.apply_remove(c.node); },
                 [&](const gang_reserved &c) { to.apply_reserve(c.gang, c.what, c.dropped); },
                 [&](const gang_was_confirmed &c) { to.apply_confirm(c.gang); },
                 [&](const expiry_set &c) { to.apply_expiry(c.gang, c.expires_ns); },
                 [&](const gang_dropped &c) { to.apply_drop(c.gang); },
             },
             what);
  to.set_revision(revision);
}

namespace {

result<> restore(ledger &to, const v1::JournalSnapshot &from, uint64_t revision) {
  to.reset();
  if (from.levels().set()) to.apply_levels({from.levels().names().begin(), from.levels().names().end()});
  std::vector<known_node> nodes;
  for (const v1::JournalNode &n : from.nodes()) {
    known_node &k = nodes.emplace_back();
    k.spec = get(n);
    k.leaving = n.leaving();
    THOLE_TRY(check_node(k.spec, to.levels().size()));
    for (const v1::JournalDevice &d : n.kept()) k.kept.push_back(get(d));
  }
  to.restore_nodes(std::move(nodes));
  for (const v1::JournalGang &g : from.gangs()) {
    THOLE_LET(holding h, get(g, to));
    to.apply_reserve(get(g.id()), std::move(h));
  }
  to.set_revision(revision);
  return {};
}

result<change> read_change(const v1::JournalRecord &record, ledger &to) {
  switch (record.change_case()) {
    case v1::JournalRecord::kLevels:
      return levels_named{{record.levels().names().begin(), record.levels().names().end()}};
    case v1::JournalRecord::kNodes: {
      nodes_described c;
      for (const v1::JournalNode &n : record.nodes().nodes()) {
        c.nodes.push_back(get(n));
        THOLE_TRY(check_node(c.nodes.back(), to.levels().size()));
      }
      return c;
    }
    case v1::JournalRecord::kRemoveNode:
      if (record.remove_node() >= to.nodes())
        return fail(reason::JournalDamaged, "the journal removes an unknown node");
      return node_removed{record.remove_node()};
    case v1::JournalRecord::kReserve: {
      gang_reserved c;
      c.gang = get(record.reserve().gang().id());
      THOLE_LET(c.what, get(record.reserve().gang(), to));
      for (const v1::JournalId &id : record.reserve().dropped()) c.dropped.push_back(get(id));
      return c;
    }
    case v1::JournalRecord::kConfirm:
      if (!to.gangs().contains(get(record.confirm())))
        return fail(reason::JournalDamaged, "the journal confirms an unknown gang");
      return gang_was_confirmed{get(record.confirm())};
    case v1::JournalRecord::kExpiry:
      if (!to.gangs().contains(get(record.expiry().gang())))
        return fail(reason::JournalDamaged, "the journal prolongs an unknown gang");
      return expiry_set{get(record.expiry().gang()), record.expiry().expires_ns()};
    case v1::JournalRecord::kDrop:
      return gang_dropped{get(record.drop())};
    default:
      return fail(reason::StateNewer, "{}", newer);
  }
}

}  // namespace

result<> replay(ledger &to, std::string_view bytes) {
  v1::JournalRecord record;
  if (!record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return fail(reason::JournalDamaged, "a record of the journal cannot be parsed");
  // A field that this version does not know is lost on the way in and out again; what it means must not be guessed.
  if (record.has_snapshot()) {
    THOLE_TRY(restore(to, record.snapshot(), record.revision()));
    return encode_snapshot(to).size() == bytes.size() ? result<>{} : fail(reason::StateNewer, "{}", newer);
  }
  if (record.revision() != to.revision() + 1)
    return fail(reason::JournalDamaged, "the journal goes from revision {} to {}", to.revision(), record.revision());
  // Records name nodes by where they stand in order.
  to.tidy();
  if (record.has_reserve() || record.change_case() == v1::JournalRecord::kRemoveNode) to.settle();
  THOLE_LET(const change what, read_change(record, to));
  if (encode(what, record.revision(), to.words()).size() != bytes.size()) return fail(reason::StateNewer, "{}", newer);
  apply(to, what, record.revision());
  return {};
}

}  // namespace thole::gang
