// A second opinion on small clusters, written without the engine's code: members are put one by one on every node,
// device by device on every GPU and at every MIG place, until all lie or every way has been tried. Slow, and easy to
// read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "model/gang.h"
#include "model/node.h"

namespace brute {

using thole::model::device_kind;
using thole::model::gang_plan;
using thole::model::gang_request;
using thole::model::node;

struct card {
  const thole::model::device *what;
  bool whole = false;
  int vgpus = 0;
  int64_t memory = 0;  // used
  int share = 0;
  uint64_t slices = 0;
  std::vector<int> instances;  // of each profile
};

struct box {
  const node *what;
  int64_t cpu = 0;  // used
  int64_t memory = 0;
  std::vector<card> cards;
};

// What one device of a role does to a card. `place` is an index into the profile's placements.
inline bool put(card &c, const thole::model::role &r, int profile, int place) {
  const auto &d = *c.what;
  if ((d.flags & THOLE_GPU_UNHEALTHY) != 0 || (!r.gpu_model.empty() && r.gpu_model != d.model)) return false;
  if (((d.flags & THOLE_GPU_MIG) != 0) != (r.kind == device_kind::mig) || c.whole) return false;
  if (r.kind == device_kind::whole) {
    if (c.vgpus > 0) return false;
    c.whole = true;
    return true;
  }
  if (r.kind == device_kind::vgpu) {
    const auto most = static_cast<int>(d.max_vgpus == 0 ? 16 : d.max_vgpus);
    const auto each = static_cast<int64_t>(r.vgpu_memory_mib + d.context_mib);
    if (c.vgpus + 1 > most || c.memory + each > static_cast<int64_t>(d.memory_mib)) return false;
    if (r.share_milli > 0 && c.share + static_cast<int>(r.share_milli) > 1000) return false;
    ++c.vgpus;
    c.memory += each;
    c.share += static_cast<int>(r.share_milli);
    return true;
  }
  const auto &p = d.mig[static_cast<std::size_t>(profile)];
  const auto at = p.placements[static_cast<std::size_t>(place)];
  uint64_t mask = 0;
  for (uint32_t s = at.start; s < at.start + at.size; ++s) mask |= uint64_t{1} << s;
  if ((c.slices & mask) != 0 || c.instances[static_cast<std::size_t>(profile)] >= static_cast<int>(p.count))
    return false;
  c.slices |= mask;
  ++c.instances[static_cast<std::size_t>(profile)];
  return true;
}

inline int profile_of(const thole::model::device &d, std::string_view name) {
  for (std::size_t i = 0; i < d.mig.size(); ++i)
    if (d.mig[i].name == name) return static_cast<int>(i);
  return -1;
}

class cluster {
 public:
  explicit cluster(const std::vector<node> &nodes, int levels) : levels_(levels) {
    for (const node &n : nodes) {
      box b{&n, 0, 0, {}};
      for (const auto &d : n.devices) b.cards.push_back({&d, false, 0, 0, 0, 0, std::vector<int>(d.mig.size(), 0)});
      boxes_.push_back(b);
    }
  }

  // Takes what a plan says; the empty text, or what is wrong with it.
  std::string take(const gang_plan &plan, const gang_request &request) {
    for (const auto &p : plan.placements) {
      const auto &r = request.roles[p.role];
      box *b = nullptr;
      for (box &x : boxes_)
        if (x.what->name == p.node) b = &x;
      if (b == nullptr) return "no such node";
      if ((b->what->flags & THOLE_NODE_CORDONED) != 0) return "cordoned";
      if (!room(*b, r)) return "cpu or memory";
      if (p.grants != r.devices) return "number of devices";
      std::set<std::string_view> vgpus;
      for (uint32_t i = 0; i < p.grants; ++i) {
        const auto &g = plan.grants[p.first_grant + i];
        if (!take(*b, g, r)) return "device";
        if (r.kind == device_kind::vgpu && !vgpus.insert(g.uuid).second) return "two vGPUs of one GPU";
      }
    }
    return {};
  }

  // Whether members[r] of each role fit, all in one domain of `level`, each role in one of levels[r] (-1: anywhere).
  // -1: the step limit came first.
  int fits(const gang_request &request, const std::vector<uint32_t> &members, int level,
           const std::vector<int> &levels) {
    request_ = &request;
    members_ = members;
    level_ = level;
    role_levels_ = levels;
    steps_ = 0;
    failed_.clear();
    where_.assign(request.roles.size(), -1);
    const std::vector<box> before = boxes_;
    const bool yes = member(0, 0, -1, cursor{});
    boxes_ = before;
    return yes ? 1 : steps_ > most_steps ? -1 : 0;
  }

  bool same_domain(int level, std::size_t a, std::size_t b) const {
    if (level < 0) return true;
    if (level == levels_) return a == b;
    for (int l = 0; l <= level; ++l)
      if (boxes_[a].what->domains[static_cast<std::size_t>(l)] != boxes_[b].what->domains[static_cast<std::size_t>(l)])
        return false;
    return true;
  }
  std::size_t index(std::string_view name) const {
    for (std::size_t i = 0; i < boxes_.size(); ++i)
      if (boxes_[i].what->name == name) return i;
    return boxes_.size();
  }

 private:
  static constexpr int most_steps = 15000;
  struct cursor {  // devices of equal members on a node go from left to right
    std::size_t card = 0;
    int place = -1;
  };

  bool room(box &b, const thole::model::role &r) {
    const auto &labels = b.what->labels;
    if (!r.label.empty() && std::find(labels.begin(), labels.end(), r.label) == labels.end()) return false;
    if (r.cpu_milli > 0 && b.cpu + static_cast<int64_t>(r.cpu_milli) > static_cast<int64_t>(b.what->cpu_milli))
      return false;
    if (r.memory_mib > 0 && b.memory + static_cast<int64_t>(r.memory_mib) > static_cast<int64_t>(b.what->memory_mib))
      return false;
    b.cpu += static_cast<int64_t>(r.cpu_milli);
    b.memory += static_cast<int64_t>(r.memory_mib);
    return true;
  }

  bool take(box &b, const thole::model::named_grant &g, const thole::model::role &r) {
    for (card &c : b.cards) {
      if (c.what->uuid != g.uuid || g.kind != r.kind) continue;
      if (r.kind != device_kind::mig) return put(c, r, 0, 0);
      const int profile = profile_of(*c.what, r.mig_profile);
      if (profile < 0 || g.profile != r.mig_profile) return false;
      const auto &places = c.what->mig[static_cast<std::size_t>(profile)].placements;
      for (std::size_t i = 0; i < places.size(); ++i)
        if (places[i] == g.mig) return put(c, r, profile, static_cast<int>(i));
    }
    return false;
  }

  // Member `m` of role `r`; `last` is the node of the one before.
  bool member(std::size_t r, uint32_t m, int last, cursor from) {
    while (r < members_.size() && m == members_[r]) ++r, m = 0, last = -1, from = {};
    if (r == members_.size()) return true;
    if (++steps_ > most_steps || !enough(r, m)) return false;
    const std::string key = state(r, m, last, from);
    if (failed_.contains(key)) return false;
    for (std::size_t n = last < 0 ? 0 : static_cast<std::size_t>(last); n < boxes_.size(); ++n) {
      box &b = boxes_[n];
      if ((b.what->flags & THOLE_NODE_CORDONED) != 0) continue;
      bool near = true;
      for (std::size_t q = 0; q < where_.size(); ++q)
        if (where_[q] >= 0)
          near = near && same_domain(level_, n, static_cast<std::size_t>(where_[q])) &&
                 (q != r || same_domain(role_levels_[r], n, static_cast<std::size_t>(where_[q])));
      if (!near) continue;
      const int64_t cpu = b.cpu, memory = b.memory;
      if (!room(b, request_->roles[r])) continue;
      const int before = where_[r];
      where_[r] = static_cast<int>(n);
      if (devices(r, m, n, 0, static_cast<int>(n) == last ? from : cursor{})) return true;
      where_[r] = before;
      b.cpu = cpu;
      b.memory = memory;
    }
    failed_.insert(key);
    return false;
  }

  bool devices(std::size_t r, uint32_t m, std::size_t n, uint32_t d, cursor from, std::size_t first = 0) {
    const auto &role = request_->roles[r];
    // Two vGPUs of one member lie on two cards. Members then go from left to right by their first cards only.
    const bool apart = role.kind == device_kind::vgpu && role.devices > 1;
    if (d == 0) first = from.card;
    if (d == role.devices) return member(r, m + 1, static_cast<int>(n), apart ? cursor{first, -1} : from);
    for (std::size_t c = from.card + (apart && d > 0 ? 1 : 0); c < boxes_[n].cards.size(); ++c) {
      const card before = boxes_[n].cards[c];
      int profile = 0, places = 1;
      if (role.kind == device_kind::mig) {
        profile = profile_of(*before.what, role.mig_profile);
        if (profile < 0) continue;
        places = static_cast<int>(before.what->mig[static_cast<std::size_t>(profile)].placements.size());
      }
      for (int p = c == from.card && role.kind == device_kind::mig ? from.place + 1 : 0; p < places; ++p) {
        if (!put(boxes_[n].cards[c], role, profile, p)) continue;
        if (devices(r, m, n, d + 1, {c, p}, d == 0 ? c : first)) return true;
        boxes_[n].cards[c] = before;
      }
    }
    return false;
  }

  // A role's devices that would still fit one by one, over all nodes, are an upper bound.
  bool enough(std::size_t r, uint32_t m) {
    for (std::size_t q = r; q < members_.size(); ++q) {
      const auto &role = request_->roles[q];
      if (role.devices == 0) continue;
      uint64_t can = 0;
      for (const box &b : boxes_)
        for (card c : b.cards) {
          const int profile = role.kind == device_kind::mig ? profile_of(*c.what, role.mig_profile) : 0;
          if (profile < 0) continue;
          const std::size_t places =
              role.kind == device_kind::mig ? c.what->mig[static_cast<std::size_t>(profile)].placements.size() : 20;
          for (std::size_t p = 0; p < places; ++p) can += put(c, role, profile, static_cast<int>(p)) ? 1 : 0;
        }
      // Laying MIG instances from the left is not always the most of them; twice as many always are.
      if (role.kind == device_kind::mig) can *= 2;
      if (can < uint64_t{members_[q] - (q == r ? m : 0)} * role.devices) return false;
    }
    return true;
  }

  std::string state(std::size_t r, uint32_t m, int last, cursor from) const {
    std::string s;
    const auto add = [&](int64_t v) { s.append(reinterpret_cast<const char *>(&v), sizeof v); };
    add(static_cast<int64_t>(r) << 32 | m);
    add(last);
    add(static_cast<int64_t>(from.card) << 16 | (from.place + 1));
    for (int w : where_) add(w);
    for (const box &b : boxes_) {
      add(b.cpu);
      add(b.memory);
      for (const card &c : b.cards) {
        add(c.whole << 8 | c.vgpus);
        add(c.memory);
        add(c.share);
        add(static_cast<int64_t>(c.slices));
        for (int i : c.instances) add(i);
      }
    }
    return s;
  }

  int levels_;
  std::vector<box> boxes_;
  const gang_request *request_ = nullptr;
  std::vector<uint32_t> members_;
  int level_ = -1;
  std::vector<int> role_levels_;
  std::vector<int> where_;  // a node of each role, once it has one
  std::set<std::string> failed_;
  int steps_ = 0;
};

}  // namespace brute
