#include "gang/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/text.h"

namespace thole::gang {

using model::device_kind;
using model::gpu;
using model::machine;
using model::member_want;

namespace {

std::string member_text(const model::role &r) {
  std::string text;
  switch (r.kind) {
    case device_kind::none:
      break;
    case device_kind::whole:
      text = fmt::format("{} GPU{}", r.devices, r.devices == 1 ? "" : "s");
      break;
    case device_kind::vgpu:
      text = fmt::format("{} vGPU{} of {}", r.devices, r.devices == 1 ? "" : "s", mib_text(r.vgpu_memory_mib));
      if (r.share_milli > 0) text += fmt::format(" and {}/1000 of the compute", r.share_milli);
      break;
    case device_kind::mig:
      text = fmt::format("{} MIG instance{} {}", r.devices, r.devices == 1 ? "" : "s", r.mig_profile);
      break;
  }
  if (!r.gpu_model.empty()) text += fmt::format(" on {}", r.gpu_model);
  if (!r.label.empty()) text += fmt::format("{}a node with {}", text.empty() ? "" : ", ", r.label);
  if (r.cpu_milli > 0) text += fmt::format("{}{} thousandths of a core", text.empty() ? "" : ", ", r.cpu_milli);
  if (r.memory_mib > 0) text += fmt::format("{}{} of memory", text.empty() ? "" : ", ", mib_text(r.memory_mib));
  return text.empty() ? "nothing" : text;
}

// What a node lacks first for one more member; the order is that of the checks.
std::string_view lacks(const machine &m, const member_want &w) {
  if (!m.open()) return "cordoned";
  if (!m.has(w.label)) return "label";
  if (w.devices > 0) {
    const auto some = [&](auto &&test) { return std::any_of(m.gpus.begin(), m.gpus.end(), test); };
    const bool mig = w.device.kind == device_kind::mig;
    const auto model = [&](const gpu &g) { return w.device.model == 0 || g.model == w.device.model; };
    const auto mode = [&](const gpu &g) { return model(g) && g.in_mig_mode() == mig; };
    if (m.gpus.empty()) return "no GPU";
    if (!some(model)) return "no such model";
    if (!some(mode)) return mig ? "not in MIG mode" : "in MIG mode";
    if (mig && !some([&](const gpu &g) { return mode(g) && g.profile(w.device.profile) != nullptr; }))
      return "no such MIG profile";
    if (!some([&](const gpu &g) { return mode(g) && g.healthy(); })) return "unhealthy";
    member_want only = w;
    only.cpu_milli = only.memory_mib = 0;
    if (capacity(m, only) == 0)
      return w.device.kind == device_kind::vgpu && !some([&](const gpu &g) { return capacity(g, w.device) > 0; })
                 ? "gpu size"
                 : "number of gpus";
    if (fits(m, only) == 0) {
      if (w.device.kind == device_kind::whole) return "free gpus";
      if (mig) return "free MIG placements";
      only.device.share_milli = 0;
      return fits(m, only) > 0 ? "gpu share" : "gpu memory";
    }
  }
  if (w.cpu_milli > 0 && m.cpu_milli - m.used_cpu < w.cpu_milli) return "cpu";
  return "memory";
}

class explainer {
 public:
  explainer(scene on, const wanted &what, const model::gang_request &request, detail wanted)
      : state_(on.state), memory_(on.memory), empty_(on.empty), what_(what), request_(request), detail_(wanted) {}

  explanation run(verdict seen) {
    out_.largest_hole_mib = memory_.largest_hole(state_);
    if (seen == verdict::unknown) return bound_reached();
    empty_.be_of(state_);
    for (uint32_t r = 0; r < what_.roles.size(); ++r)
      if (never_fits(r)) return std::move(out_);
    if (larger_than_pool()) return std::move(out_);
    tightest(state_, memory_, reason::GangNoFitInCluster);
    if (out_.level != "cluster") out_.why = reason::GangNoFitInDomain;
    return std::move(out_);
  }

 private:
  explanation bound_reached() {
    out_.why = reason::GangSearchBound;
    out_.level = "cluster";
    for (const wanted_role &r : what_.roles) out_.needed += r.least;
    out_.available = search(state_, memory_, what_).best_partial(model::cluster_level).members;
    out_.message = fmt::format(
        "neither a place for all {} members nor a proof that there is none was found within {} steps; use fewer "
        "different roles, or a narrower required domain",
        out_.needed, most_explored);
    return std::move(out_);
  }

  // A member that no node could ever take, whatever runs.
  bool never_fits(uint32_t role) {
    const member_want &w = what_.roles[role].want;
    if (empty_.memory.of(w).follow(empty_.nodes).room(model::cluster_level, 0) > 0) return false;
    for (uint32_t n : empty_.closed)
      if (capacity(state_.at(n), w) > 0) return false;
    const model::role &r = request_.roles[role];
    out_.role = role;
    out_.needed = what_.roles[role].least;
    out_.level = "node";
    out_.why = reason::NodeTooSmall;
    std::string hint = "no node has all of that, even when nothing runs there; ask for less";
    if (state_.nodes() == 0) hint = "the ledger has no nodes; add them with set_nodes first";
    else if (fits_elsewhere(w)) {
      out_.why = reason::NoSuchLabel;
      hint = fmt::format("no node with {} has all of that; give the label to more nodes, or ask for another", r.label);
    } else if (w.devices > 0) device_hint(r, w, hint);
    out_.message = fmt::format("a member of role {} needs {}: {}", r.name, member_text(r), hint);
    add_blockers(state_, role);
    return true;
  }

  // Whether only the label stands in the way.
  bool fits_elsewhere(const member_want &w) const {
    member_want any = w;
    any.label = 0;
    for (uint32_t n = 0; w.label != 0 && n < state_.nodes(); ++n)
      if (capacity(state_.at(n), any) > 0) return true;
    return false;
  }

  void device_hint(const model::role &r, const member_want &w, std::string &hint) {
    std::set<std::string_view> models, profiles;
    int64_t most = -1;
    bool model = false;
    for (uint32_t n = 0; n < state_.nodes(); ++n)
      for (const gpu &g : state_.at(n).gpus) {
        models.insert(state_.words().text(g.model));
        if (w.device.model != 0 && g.model != w.device.model) continue;
        model = true;
        if (g.in_mig_mode())
          for (const model::profile_shape &p : g.profiles) profiles.insert(state_.words().text(p.name));
        else most = std::max(most, g.memory_mib - g.context_mib);
      }
    if (w.device.model != 0 && !model) {
      out_.why = reason::NoSuchModel;
      hint = fmt::format("no node has that model; there are: {}", models.empty() ? "none" : list(models));
    } else if (w.device.kind == device_kind::mig && !profiles.contains(r.mig_profile)) {
      out_.why = reason::NoMig;
      hint = fmt::format("no GPU in MIG mode offers it; offered are: {}", profiles.empty() ? "none" : list(profiles));
    } else if (w.device.kind == device_kind::vgpu && most < w.device.memory_mib) {
      out_.why = reason::DeviceTooSmall;
      hint = most < 0 ? "there is no GPU that takes vGPUs"
                      : fmt::format("the largest vGPU that an empty GPU takes is {}, its context already taken off",
                                    mib_text(static_cast<uint64_t>(most)));
    }
  }

  static std::string list(const std::set<std::string_view> &words) { return fmt::format("{}", fmt::join(words, ", ")); }

  bool larger_than_pool() {
    const verdict empty = search(empty_.nodes, empty_.memory, what_).minima_fit(true, true);
    if (empty == verdict::no && !closed_nodes_matter())
      tightest(empty_.nodes, empty_.memory, reason::GangLargerThanPool);
    return out_.why == reason::GangLargerThanPool;
  }

  // Whether a cordon or a sick device stands in the way of an otherwise empty cluster.
  bool closed_nodes_matter() {
    for (const wanted_role &r : what_.roles)
      for (uint32_t n : empty_.closed)
        if (capacity(state_.at(n), r.want) > fits(empty_.nodes.at(n), r.want)) return true;
    return false;
  }

  // Sets level, domain, needed, available, role and the sentence for the first constraint that fails.
  void tightest(ledger &on, fit_memory &memory, reason why) {
    search s(on, memory, what_);
    int level = model::cluster_level;
    search::partial best;
    out_.needed = 0;
    for (const wanted_role &r : what_.roles) out_.needed += r.least;
    if (s.minima_fit(false, false) == verdict::yes) {
      level = what_.widest;
      if (s.minima_fit(true, false) == verdict::yes && role_alone(on, s, why)) return;
    }
    best = s.best_partial(level);
    say(on, why, level, best);
  }

  // One role whose own domain is what fails.
  bool role_alone(const ledger &on, search &s, reason why) {
    for (std::size_t r = 0; r < what_.roles.size(); ++r) {
      if (what_.roles[r].widest == model::cluster_level || s.minima_fit_with(r) == verdict::yes) continue;
      const search::partial best = s.best_partial_of(r, what_.roles[r].widest);
      if (best.members >= what_.roles[r].least) continue;
      out_.needed = what_.roles[r].least;
      say(on, why, what_.roles[r].widest, best);
      return true;
    }
    return false;
  }

  void say(const ledger &on, reason why, int level, const search::partial &best) {
    const model::topology &tree = state_.topology();
    out_.why = why;
    out_.level = tree.level_name(level);
    out_.available = best.members;
    out_.role = static_cast<uint32_t>(best.short_of);
    if (level == tree.node_level() && state_.nodes() > 0)
      out_.domain = state_.words().text(state_.at(best.domain).name);
    else if (level != model::cluster_level) out_.domain = tree.domain_name(level, best.domain);
    const model::role &r = request_.roles[best.short_of];
    const std::string where = level == model::cluster_level ? "the whole cluster" : fmt::format("one {}", out_.level);
    std::string which = out_.domain.empty() ? "it takes" : fmt::format("the best, {}, takes", out_.domain);
    if (why == reason::GangLargerThanPool) which = "even with nothing else running " + which;
    out_.message = fmt::format(
        "{} members must lie in {}; {} {}. A member of role {} needs {}; the most memory free for one more vGPU on "
        "one GPU is {}",
        out_.needed, where, which, out_.available, r.name, member_text(r), mib_text(out_.largest_hole_mib));
    add_blockers(on, best.short_of);
  }

  void add_blockers(const ledger &on, std::size_t role) {
    if (detail_ != detail::all) return;
    const member_want &w = what_.roles[role].want;
    for (uint32_t n = 0; n < on.nodes(); ++n) {
      if (fits(on.at(n), w) > 0) continue;
      const std::string_view what = lacks(on.at(n), w);
      const auto it =
          std::find_if(out_.blockers.begin(), out_.blockers.end(), [&](const blocker &b) { return b.what == what; });
      if (it == out_.blockers.end()) out_.blockers.push_back({what, 1});
      else ++it->nodes;
    }
    std::stable_sort(out_.blockers.begin(), out_.blockers.end(),
                     [](const blocker &a, const blocker &b) { return a.nodes > b.nodes; });
  }

  ledger &state_;
  fit_memory &memory_;
  empty_twin &empty_;
  const wanted &what_;
  const model::gang_request &request_;
  detail detail_;
  explanation out_;
};

}  // namespace

void empty_twin::be_of(const ledger &state) {
  nodes.be_empty_twin_of(state);
  if (shapes == state.shapes_stamp()) return;
  closed.clear();
  for (uint32_t n = 0; n < state.nodes(); ++n) {
    const machine &m = state.at(n);
    if (!m.open() || !std::all_of(m.gpus.begin(), m.gpus.end(), [](const gpu &g) { return g.healthy(); }))
      closed.push_back(n);
  }
  shapes = state.shapes_stamp();
}

explanation explain(scene on, const wanted &what, const model::gang_request &request, verdict seen, detail wanted) {
  return explainer(on, what, request, wanted).run(seen);
}

}  // namespace thole::gang
