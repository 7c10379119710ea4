// Members placed a second, through the C ABI of libthole: plan, reserve, confirm, and the release of the oldest gang,
// so that the state changes from call to call. Beside it, on the same machine in the same run, a bare loop of the same
// shape that knows nothing but free GPUs: it scans all nodes for each member (peer), and one that keeps them in order
// (limit). The cluster is simulated: placement is arithmetic.
#include <thole/gang.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <set>
#include <string>
#include <vector>

namespace {

using timer = std::chrono::steady_clock;

double seconds_since(timer::time_point t) {
  return std::chrono::duration<double>(timer::now() - t).count();
}

void line(const std::string &id, double ours, double peer, double limit) {
  std::printf(
      "{\"id\":\"%s\",\"ours\":%.0f,\"unit\":\"members/"
      "s\",\"peer\":%.0f,\"limit\":%.0f,\"ratio\":%.2f,\"goal\":null}\n",
      id.c_str(), ours, peer, limit, ours / peer);
  std::fflush(stdout);
}

void must(thole_code code, const thole_status &s, const char *what) {
  if (code == THOLE_OK) return;
  std::fprintf(stderr, "%s: %s: %s\n", what, s.reason, s.message);
  std::exit(1);
}

class cluster {
 public:
  // Nodes in racks of 16, racks in blocks of 16.
  cluster(uint32_t nodes, uint32_t gpus, bool one_by_one = false)
      : thole_(thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr)), room_(1 << 21) {
    thole_core_options options{};
    options.struct_size = sizeof options;
    must(thole_->core->open(&options, &core_, &status_), status_, "open");
    const thole_str levels[] = {THOLE_STR("block"), THOLE_STR("rack")};
    const thole_list level_list{levels, 2, sizeof(thole_str)};
    must(thole_->gang->set_levels(core_, &level_list, &status_), status_, "set_levels");
    std::deque<std::string> texts;
    const auto text = [&](const std::string &s) {
      const std::string &kept = texts.emplace_back(s);
      return thole_str{kept.data(), kept.size()};
    };
    std::vector<thole_node> all(nodes);
    std::vector<thole_gpu> devices(std::size_t{nodes} * gpus);
    std::vector<thole_str> domains(std::size_t{nodes} * 2);
    for (uint32_t n = 0; n < nodes; ++n) {
      domains[2 * n] = text("b" + std::to_string(n / 256));
      domains[2 * n + 1] = text("r" + std::to_string(n / 16));
      for (uint32_t g = 0; g < gpus; ++g) {
        thole_gpu &d = devices[std::size_t{n} * gpus + g];
        d.struct_size = sizeof d;
        d.uuid = text("SIM-" + std::to_string(n) + "-" + std::to_string(g));
        d.model = THOLE_STR("simulated");
        d.memory_mib = 81920;
        d.flags = THOLE_GPU_SIMULATED;
      }
      thole_node &node = all[n];
      node.struct_size = sizeof node;
      node.name = text("node-" + std::to_string(100000 + n));
      node.domains = {&domains[2 * n], 2, sizeof(thole_str)};
      node.cpu_milli = 128000;
      node.memory_mib = 1 << 20;
      node.gpus = {&devices[std::size_t{n} * gpus], gpus, sizeof(thole_gpu)};
    }
    const uint32_t each = one_by_one ? 1 : nodes;
    const auto start = timer::now();
    for (uint32_t n = 0; n < nodes; n += each) {
      const thole_list list{&all[n], each, sizeof(thole_node)};
      must(thole_->gang->set_nodes(core_, &list, &status_), status_, "set_nodes");
    }
    seconds_to_add_ = seconds_since(start);
  }
  double seconds_to_add() const { return seconds_to_add_; }
  ~cluster() { thole_->core->close(core_, nullptr); }

  bool take(uint64_t id, uint32_t members, const thole_topology *near = nullptr, bool keep = true) {
    thole_role role{};
    role.struct_size = sizeof role;
    role.name = THOLE_STR("worker");
    role.members = members;
    role.device_kind = THOLE_KIND_WHOLE;
    role.devices = 1;
    thole_gang_request request{};
    request.struct_size = sizeof request;
    request.gang = {1, id};
    request.roles = {&role, 1, sizeof role};
    if (near != nullptr) request.topology = {near, 1, sizeof *near};
    thole_plan plan{};
    plan.struct_size = sizeof plan;
    thole_buffer room{room_.data(), room_.size() * 8, 0};
    const thole_code code = thole_->gang->plan(core_, &request, 0, &plan, &room, &status_);
    if (code == THOLE_NO_FIT) return false;
    must(code, status_, "plan");
    if (!keep) return true;
    thole_reservation terms{};
    terms.struct_size = sizeof terms;
    must(thole_->gang->reserve(core_, &request, &plan, &terms, &status_), status_, "reserve");
    must(thole_->gang->confirm(core_, request.gang, 0, &status_), status_, "confirm");
    return true;
  }
  void release(uint64_t id) { must(thole_->gang->release(core_, {1, id}, &status_), status_, "release"); }

 private:
  const thole_root *thole_;
  thole_core core_{};
  double seconds_to_add_ = 0;
  thole_status status_{sizeof(thole_status), 0, 0, 0, 0, {}, {}};
  std::vector<uint64_t> room_;
};

// The bare loops: best fit on free GPUs a node, ties by index.
class bare_scan {
 public:
  bare_scan(uint32_t nodes, uint32_t gpus) : free_(nodes, gpus) {}
  uint32_t take() {
    uint32_t best = 0, least = ~0u;
    for (uint32_t n = 0; n < free_.size(); ++n)
      if (free_[n] > 0 && free_[n] < least) least = free_[n], best = n;
    --free_[best];
    return best;
  }
  void give(uint32_t n) { ++free_[n]; }

 private:
  std::vector<uint32_t> free_;
};
class bare_index {
 public:
  bare_index(uint32_t nodes, uint32_t gpus) : free_(nodes, gpus) {
    for (uint32_t n = 0; n < nodes; ++n) order_.emplace(gpus, n);
  }
  uint32_t take() {
    const uint32_t n = order_.begin()->second;
    order_.erase(order_.begin());
    if (--free_[n] > 0) order_.emplace(free_[n], n);
    return n;
  }
  void give(uint32_t n) {
    order_.erase({free_[n], n});
    order_.emplace(++free_[n], n);
  }

 private:
  std::vector<uint32_t> free_;
  std::set<std::pair<uint32_t, uint32_t>> order_;
};

// Fills to `fill` percent with gangs of `members`, then replaces the oldest gang again and again.
template <class Take, class Release>
double churn(uint32_t gpus, uint32_t members, uint32_t fill, double for_seconds, Take take, Release release) {
  uint64_t next = 1, oldest = 1;
  for (uint64_t held = 0; held + members <= uint64_t{gpus} * fill / 100; held += members) take(next++);
  const auto start = timer::now();
  uint64_t placed = 0;
  while (seconds_since(start) < for_seconds) {
    release(oldest++);
    take(next++);
    placed += members;
  }
  return static_cast<double>(placed) / seconds_since(start);
}

template <class Bare>
double bare_churn(uint32_t nodes, uint32_t gpus, uint32_t members, uint32_t fill, double for_seconds) {
  Bare bare(nodes, gpus);
  std::deque<std::vector<uint32_t>> held;
  return churn(
      nodes * gpus, members, fill, for_seconds,
      [&](uint64_t) {
        auto &gang = held.emplace_back();
        for (uint32_t m = 0; m < members; ++m) gang.push_back(bare.take());
      },
      [&](uint64_t) {
        for (uint32_t n : held.front()) bare.give(n);
        held.pop_front();
      });
}

void figure_churn(uint32_t members, uint32_t fill) {
  constexpr uint32_t nodes = 5000, gpus = 8;
  constexpr double seconds = 1.0;
  double ours = 0;
  {
    cluster c(nodes, gpus);
    ours = churn(
        nodes * gpus, members, fill, seconds, [&](uint64_t id) { c.take(id, members); },
        [&](uint64_t id) { c.release(id); });
  }
  line("gang/5000x8/gang" + std::to_string(members) + "/fill" + std::to_string(fill), ours,
       bare_churn<bare_scan>(nodes, gpus, members, fill, seconds),
       bare_churn<bare_index>(nodes, gpus, members, fill, seconds));
}

// Kueue's shape: 2,304 members of a GPU each on 2,500 nodes with one GPU, a preferred rack; plan only, and with all.
void figure_large() {
  constexpr uint32_t nodes = 2500, members = 2304;
  cluster c(nodes, 1);
  thole_topology rack{};
  rack.struct_size = sizeof rack;
  rack.level = THOLE_STR("rack");
  rack.mode = THOLE_TOPOLOGY_PREFERRED;
  for (const bool keep : {false, true}) {
    uint64_t id = 1;
    const auto start = timer::now();
    while (seconds_since(start) < 1.0) {
      if (!c.take(id, members, &rack, keep)) std::exit(1);
      if (keep) c.release(id);
      ++id;
    }
    const double ours = static_cast<double>((id - 1) * members) / seconds_since(start);
    line(std::string("gang/2500x1/gang2304/preferred-rack/") + (keep ? "plan-reserve-confirm-release" : "plan"), ours,
         bare_churn<bare_scan>(nodes, 1, members, 100, 1.0), bare_churn<bare_index>(nodes, 1, members, 100, 1.0));
  }
}

void cost(const std::string &id, double ours, const char *unit, double peer) {
  std::printf(
      "{\"id\":\"%s\",\"ours\":%.2f,\"unit\":\"%s\",\"peer\":%.2f,\"limit\":null,\"ratio\":%.2f,\"goal\":null}\n",
      id.c_str(), ours, unit, peer, ours / peer);
  std::fflush(stdout);
}

// Nothing is quadratic, and a small gang does not pay for the nodes that it does not touch: a node that is added alone,
// beside the same on half the cluster; likewise a member of a gang that fills half of the cluster, and a gang of 8 that
// takes the place of the oldest on a cluster that is half full.
void figure_growth() {
  double node_before = 0, member_before = 0, gang_before = 0;
  for (const uint32_t nodes : {1250u, 2500u, 5000u}) {
    cluster c(nodes, 8, true);
    const double node = c.seconds_to_add() * 1e6 / nodes;
    const uint32_t members = nodes * 4;
    uint64_t rounds = 0;
    if (!c.take(++rounds, members)) std::exit(1);  // pays for the order of the nodes
    c.release(rounds);
    const auto start = timer::now();
    for (; seconds_since(start) < 0.5; c.release(rounds))
      if (!c.take(++rounds, members)) std::exit(1);
    const double member = seconds_since(start) * 1e6 / (static_cast<double>(rounds - 1) * members);
    const std::string size = std::to_string(nodes) + "x8";
    cost("gang/" + size + "/node-added-alone", node, "us", node_before == 0 ? node : node_before);
    cost("gang/" + size + "/member-of-half-the-cluster", member, "us", member_before == 0 ? member : member_before);
    uint64_t next = 1 << 20, oldest = next;
    for (uint32_t held = 0; held < nodes * 4; held += 8) c.take(next++, 8);
    const auto churn_start = timer::now();
    uint64_t replaced = 0;
    for (; seconds_since(churn_start) < 0.5; ++replaced) {
      c.release(oldest++);
      c.take(next++, 8);
    }
    const double gang = seconds_since(churn_start) * 1e6 / static_cast<double>(replaced);
    cost("gang/" + size + "/gang8-replaced", gang, "us", gang_before == 0 ? gang : gang_before);
    node_before = node;
    member_before = member;
    gang_before = gang;
  }
}

// A plan that does not fit, beside one that does, of the same size on the same 90 % full cluster.
void figure_no_fit() {
  cluster c(5000, 8);
  for (uint64_t id = 1; id <= 5000 * 8 * 9 / 10 / 64; ++id) c.take(id, 64);
  thole_topology node{};
  node.struct_size = sizeof node;
  node.level = THOLE_STR("rack");
  node.mode = THOLE_TOPOLOGY_REQUIRED;
  const auto plans = [&](uint32_t members, const thole_topology *near, bool fits) {
    uint64_t n = 0;
    const auto start = timer::now();
    for (; seconds_since(start) < 0.5; ++n)
      if (c.take(1 << 20, members, near, false) != fits) std::exit(1);
    return seconds_since(start) * 1e6 / static_cast<double>(n);
  };
  const double fit = plans(64, nullptr, true);
  cost("gang/5000x8/plan64/no-fit-in-cluster", plans(8000, nullptr, false), "us", fit);
  cost("gang/5000x8/plan64/no-fit-in-rack", plans(129, &node, false), "us", fit);
}

}  // namespace

int main() {
  for (const uint32_t fill : {50u, 90u})
    for (const uint32_t members : {8u, 64u, 512u}) figure_churn(members, fill);
  figure_large();
  figure_growth();
  figure_no_fit();
  return 0;
}
