// gang/ledger.h: the one ledger of devices: what there is, and which gang holds what of it.
//
// Two kinds of change. Tentative ones (place, hold, drop) go through an append-only undo log: a search takes a mark,
// tries, and rolls back. Lasting ones (the apply_ functions) are what the journal's records say; the engine has checked
// them before it wrote them down, and replay calls the very same functions.
//
// Nothing fails but for want of memory, and then it has changed nothing: whatever a change needs is allocated before
// anything is changed.
//
// Nodes stand in the byte order of their names, which is what a plan's ties go by, and what the journal means by a
// node's index. Platforms mirror their nodes one at a time, so the order is not kept at each change: after a node has
// come or gone, settle() comes before whatever walks over nodes or looks at the topology.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "gang/names.h"
#include "model/gang.h"
#include "model/node.h"
#include "model/topology.h"

namespace thole::gang {

// As push_back would make it, but before anything is changed.
template <class T>
void make_room(std::vector<T> &in, std::size_t more) {
  if (in.capacity() - in.size() < more) in.reserve(std::max(2 * in.capacity(), in.size() + more));
}

struct held_member {
  uint32_t role = 0;
  uint32_t member = 0;
  uint32_t first_rank = 0;
  uint32_t ranks = 0;
  uint32_t node = 0;
  uint32_t first_grant = 0;  // in holding.grants
  uint32_t grants = 0;
  int64_t cpu_milli = 0;
  int64_t memory_mib = 0;
  friend bool operator==(const held_member &, const held_member &) = default;
};

// What a gang holds. Members stand in the order of (role, member).
struct holding {
  model::gang_state state = model::gang_state::none;
  int64_t expires_ns = 0;
  uint32_t ranks = 0;
  std::vector<held_member> members;
  std::vector<model::grant> grants;

  bool expired(int64_t now_ns) const noexcept {
    return state == model::gang_state::reserved && expires_ns != 0 && expires_ns <= now_ns;
  }
  std::span<const model::grant> of(const held_member &m) const {
    return std::span(grants).subspan(m.first_grant, m.grants);
  }
};

// What a node's platform has said of it, and the held devices that it says no more (by uuid).
struct known_node {
  model::node spec;
  std::vector<model::device> kept;               // after spec.devices in the machine; unhealthy
  std::vector<uint32_t> uuids;                   // name of each of the machine's GPUs
  bool leaving = false;                          // removed, but gangs hold something: forgotten with the last of them
  bool gone = false;                             // forgotten: settle() takes its place away
  bool untidy = false;                           // something may be kept, or the node stay, that nobody holds any more
  std::vector<std::pair<id128, uint32_t>> here;  // members that lie here: gang, and index in holding.members
};

class ledger {
 public:
  // Forgets everything but the names that were given out.
  void reset();
  // Forgets what gangs that are gone were the last to hold: devices that are no longer listed, nodes that were removed.
  // Comes before anything is decided about nodes and devices.
  void tidy();
  // Tidies, and brings the nodes and the topology into order. Indices of nodes are then others.
  void settle();

  // --- what there is
  names &words() noexcept { return names_; }
  const names &words() const noexcept { return names_; }
  const model::topology &topology() const noexcept { return topology_; }
  const std::vector<std::string> &levels() const noexcept { return levels_; }
  bool levels_are_set() const noexcept { return levels_set_; }
  uint32_t nodes() const noexcept { return static_cast<uint32_t>(machines_.size()); }
  uint32_t nodes_there() const noexcept { return nodes() - gone_; }  // settled or not
  const model::machine &at(uint32_t node) const noexcept { return machines_[node]; }
  const known_node &known(uint32_t node) const noexcept { return known_[node]; }
  uint32_t find_node(std::string_view name) const;                   // no_node
  uint32_t find_device(uint32_t node, std::string_view uuid) const;  // index in the node, or no_node
  uint32_t home_of(std::string_view uuid) const;                     // the node that has the device, or no_node
  const std::map<id128, holding> &gangs() const noexcept { return gangs_; }
  const std::set<std::pair<int64_t, id128>> &expiring() const noexcept { return expiring_; }
  uint64_t revision() const noexcept { return revision_; }
  // Of what is known and held: reservations that have expired are left out.
  uint64_t digest(int64_t now_ns) const;
  static constexpr uint32_t no_node = ~uint32_t{0};

  // Grows whenever what is free on the node changes: the key of what is remembered about it.
  uint64_t stamp(uint32_t node) const noexcept { return stamps_[node]; }
  // The same of the order of the nodes and the topology; never 0.
  uint64_t topology_stamp() const noexcept { return topology_stamp_; }
  // The same of what the nodes are, whatever is held there.
  uint64_t shapes_stamp() const noexcept { return shapes_stamp_; }
  // Where the row of touched nodes ends now; and f(node) for what stands in it from such an end on, some nodes more
  // than once and one that was touched before. False: the row is not that long, look at all nodes.
  uint64_t touches() const noexcept { return touches_; }
  template <class F>
  bool touched_since(uint64_t end, F &&f) const;

  // --- tentative changes
  std::size_t mark() const noexcept { return undo_.size(); }
  void rollback(std::size_t mark);
  // Best-fit devices for one more member; model::fits was not 0.
  void place(uint32_t node, const model::member_want &want, std::vector<model::grant> &out);
  // Exactly this.
  void hold(uint32_t node, int64_t cpu_milli, int64_t memory_mib, std::span<const model::grant> grants);
  void give_back(const holding &what);

  // --- lasting changes; no tentative one is open
  void apply_levels(std::vector<std::string> levels);
  void apply_nodes(const std::vector<model::node> &nodes);
  void apply_remove(uint32_t node);  // at once, or with the last gang there
  // Holds it, and drops reservations that have expired; `what` is written in the indices before they are.
  void apply_reserve(id128 gang, holding what, std::span<const id128> dropped = {});
  void apply_confirm(id128 gang);
  void apply_drop(id128 gang);
  void apply_expiry(id128 gang, int64_t expires_ns);
  void set_revision(uint64_t revision) noexcept { revision_ = revision; }

  // The nodes of a snapshot.
  void restore_nodes(std::vector<known_node> nodes);

  // Makes this the machines and the topology of `other`, which is settled, with nothing held: where one asks what would
  // fit if nothing ran. Nothing else of this ledger may be used. What has not changed is not copied again.
  void be_empty_twin_of(const ledger &other);

 private:
  struct change {
    uint32_t node = 0;
    bool taken = true;
    bool device = false;
    int64_t cpu_milli = 0;
    int64_t memory_mib = 0;
    model::grant grant;
  };

  // A node made ready to take its place, with all that this needs; `grants` are those of its members.
  struct fitted_node {
    known_node known;
    model::machine machine;
    std::vector<model::grant> grants;
  };
  fitted_node fit(known_node known, const known_node *before);
  void replace_node(uint32_t node, fitted_node &with) noexcept;
  void append_node(fitted_node &what) noexcept;
  void make_room_for(std::size_t more_nodes);
  std::vector<uint32_t> order_by_name() const;
  void forget_node(uint32_t node) noexcept;
  model::machine compile(const known_node &known);
  model::gpu compile(const model::device &d, uint32_t more_flags);
  void erase(id128 gang) noexcept;
  void rebuild_topology();
  void start_touched();
  void index_devices(uint32_t node) noexcept;
  void touch(uint32_t node) noexcept;
  void touch_shape(uint32_t node) noexcept;

  names names_;
  std::vector<std::string> levels_;
  bool levels_set_ = false;
  model::topology topology_;
  std::vector<model::machine> machines_;
  std::vector<known_node> known_;
  std::vector<uint64_t> stamps_;
  std::vector<uint64_t> shapes_;  // the same, of what there is
  uint64_t shapes_stamp_ = 1;
  uint64_t topology_stamp_ = 1;
  std::vector<uint32_t> touched_{no_node};  // a ring, of a power of two in size
  uint64_t touches_ = 0;
  uint32_t in_order_ = 0;  // nodes before this one stand in order
  uint32_t gone_ = 0;
  bool untidy_ = false;
  bool order_is_old_ = false;
  bool topology_is_old_ = false;
  std::vector<uint32_t> node_of_;  // by name id: index + 1
  std::vector<uint32_t> home_;     // by uuid's name id: index of the node + 1
  std::map<id128, holding> gangs_;
  std::set<std::pair<int64_t, id128>> expiring_;
  std::vector<change> undo_;
  uint64_t revision_ = 0;
  uint64_t clock_ = 1;
};

inline void ledger::touch(uint32_t node) noexcept {
  stamps_[node] = ++clock_;
  // Whoever has seen the last one looks at it again.
  if (uint32_t &last = touched_[touches_ % touched_.size()]; last != node)
    touched_[++touches_ % touched_.size()] = node;
}

inline void ledger::touch_shape(uint32_t node) noexcept {
  touch(node);
  shapes_stamp_ = shapes_[node] = stamps_[node];
}

template <class F>
bool ledger::touched_since(uint64_t end, F &&f) const {
  if (touches_ - end >= touched_.size()) return false;
  for (; end <= touches_; ++end)
    if (const uint32_t node = touched_[end % touched_.size()]; node != no_node) f(node);
  return true;
}

// Tentative changes end with the block that makes them, whatever it ends by.
class attempt {
 public:
  explicit attempt(ledger &state) : state_(state), mark_(state.mark()) {}
  attempt(const attempt &) = delete;
  attempt &operator=(const attempt &) = delete;
  ~attempt() { state_.rollback(mark_); }

 private:
  ledger &state_;
  std::size_t mark_;
};

}  // namespace thole::gang
