#include "queue.h"

#include <algorithm>
#include <regex>
#include <set>

#include "files.h"

namespace thole::slurm {
namespace {

// "JobId=1 JobName=a b State=..." : a name begins after a space and ends at '='; a value may hold spaces. With -d a
// job's line has "Nodes= CPU_IDs= Mem= GRES=" once for each set of nodes: those are gathered, one after the other.
fields parse_line(const std::string &line) {
  static const std::regex name("(^| )([A-Za-z][A-Za-z0-9_/:.]*)=");
  fields all;
  std::string last;
  std::size_t from = 0;
  const auto finish = [&](std::size_t end) {
    if (last.empty()) return;
    std::string value = line.substr(from, end - from);
    while (!value.empty() && value.back() == ' ') value.pop_back();
    const bool repeated = last == "Nodes" || last == "GRES";
    if (repeated && all.count(last) > 0) all[last] += "\n" + value;
    else all.emplace(last, value);
  };
  for (std::sregex_iterator i(line.begin(), line.end(), name), none; i != none; ++i) {
    finish(static_cast<std::size_t>(i->position()));
    last = (*i)[2];
    from = static_cast<std::size_t>(i->position() + i->length());
  }
  finish(line.size());
  return all;
}

std::string get(const fields &f, const char *name) {
  const auto at = f.find(name);
  return at == f.end() ? std::string() : at->second;
}

result<std::vector<std::string>> hosts(const std::string &list) {
  THOLE_LET(const finished done, run_program({"scontrol", "show", "hostnames", list}));
  return lines_of(done.out);
}

// "gpu:sim:2,shard:sim:64(...)": the count of `kind`.
uint64_t gres_count(const std::string &text, const std::string &kind) {
  uint64_t sum = 0;
  const std::regex item("(?:^|,|/)(?:gres[:/])?" + kind + "(?::[A-Za-z][^:,(]*)?:([0-9]+)");
  for (std::sregex_iterator i(text.begin(), text.end(), item), none; i != none; ++i)
    sum += number((*i)[1].str()).value_or(0);
  return sum;
}

// Subtracts what a running job holds on one node. "shard:20(IDX:0)" before 24.11, "shard:sim:20(20/32,0/32)" since:
// what the job has of each GPU. "gpu:sim:1(IDX:0-1)": whole ones.
void subtract(const std::string &gres, const std::string &node, usage &u) {
  static const std::regex shard("shard(?::[A-Za-z][^:,(]*)?:([0-9]+)\\(([^)]*)\\)");
  static const std::regex whole("gpu(?::[A-Za-z][^:,(]*)?:[0-9]+\\(IDX:([^)]*)\\)");
  static const std::regex range("([0-9]+)(?:-([0-9]+))?");
  const auto take = [&](uint64_t gpu, uint64_t shards) {
    for (hole &h : u.holes)
      if (h.node == node && h.gpu == gpu) h.shards -= std::min(h.shards, shards);
  };
  for (std::sregex_iterator i(gres.begin(), gres.end(), shard), none; i != none; ++i) {
    const std::string where = (*i)[2];
    if (where.rfind("IDX:", 0) == 0) {
      take(number(where.substr(4)).value_or(0), number((*i)[1].str()).value_or(0));
      continue;
    }
    uint64_t gpu = 0;
    std::string rest = where + ",";
    for (std::size_t at = 0, comma; (comma = rest.find(',', at)) != std::string::npos; at = comma + 1, ++gpu)
      take(gpu, number(rest.substr(at, rest.find('/', at) - at)).value_or(0));
  }
  for (std::sregex_iterator i(gres.begin(), gres.end(), whole), none; i != none; ++i) {
    const std::string list = (*i)[1];
    for (std::sregex_iterator r(list.begin(), list.end(), range); r != none; ++r) {
      const uint64_t from = number((*r)[1].str()).value_or(0);
      const uint64_t to = (*r)[2].matched ? number((*r)[2].str()).value_or(from) : from;
      for (uint64_t gpu = from; gpu <= to; ++gpu) take(gpu, UINT64_MAX);
    }
  }
}

std::string memory_text(uint64_t mib) {
  return mib % 1024 == 0 ? fmt::format("{} GiB", mib / 1024) : fmt::format("{} MiB", mib);
}

}  // namespace

result<std::vector<fields>> show(const std::vector<std::string> &what) {
  std::vector<std::string> argv = {"scontrol", "-d", "-o", "show"};
  argv.insert(argv.end(), what.begin(), what.end());
  THOLE_LET(const finished done, run_program(argv));
  std::vector<fields> all;
  if (done.code != 0 && done.err.find("Invalid job id") == std::string::npos)
    return fail(reason::SystemCallFailed, "scontrol: {}", done.err.substr(0, done.err.find('\n')));
  for (const std::string &line : lines_of(done.out))
    if (line.find('=') != std::string::npos) all.push_back(parse_line(line));
  return all;
}

bool is_over(const std::string &state) {
  static const std::set<std::string> over = {"COMPLETED", "FAILED",   "CANCELLED",     "TIMEOUT",
                                             "NODE_FAIL", "DEADLINE", "OUT_OF_MEMORY", "BOOT_FAIL"};
  return over.count(state.substr(0, state.find_first_of(" +"))) > 0;
}

result<usage> read_usage() {
  THOLE_LET(const std::vector<fields> nodes, show({"node"}));
  THOLE_LET(const std::vector<fields> jobs, show({"job"}));
  usage u;
  for (const fields &n : nodes) {
    const std::string state = get(n, "State");
    const uint64_t gpus = gres_count(get(n, "Gres"), "gpu");
    const uint64_t shards = gres_count(get(n, "Gres"), "shard");
    if (gpus == 0 || shards == 0 || state.find("DOWN") != std::string::npos || state.find("DRAIN") != std::string::npos)
      continue;
    for (uint32_t gpu = 0; gpu < gpus; ++gpu) u.holes.push_back({get(n, "NodeName"), gpu, shards / gpus});
    u.largest_total = std::max(u.largest_total, shards / gpus);
  }
  for (const fields &j : jobs) {
    if (get(j, "JobState") != "RUNNING" && get(j, "JobState") != "COMPLETING" && get(j, "JobState") != "SUSPENDED")
      continue;
    const std::vector<std::string> where = lines_of(get(j, "Nodes"));
    const std::vector<std::string> what = lines_of(get(j, "GRES"));
    for (std::size_t i = 0; i < where.size() && i < what.size(); ++i) {
      THOLE_LET(const std::vector<std::string> names, hosts(where[i]));
      for (const std::string &name : names) subtract(what[i], name, u);
    }
  }
  return u;
}

wait explain_wait(const fields &job, const usage &u, uint64_t shard_mib) {
  wait w;
  const uint64_t shards = gres_count(get(job, "TresPerNode"), "shard");
  if (shards == 0) return w;
  const std::string nodes_text = get(job, "NumNodes");
  const uint64_t nodes = std::max<uint64_t>(1, number(nodes_text.substr(0, nodes_text.find('-'))).value_or(1));
  const hole *largest = nullptr;
  std::set<std::string> fitting;
  for (const hole &h : u.holes) {
    if (largest == nullptr || h.shards > largest->shards) largest = &h;
    if (h.shards >= shards) fitting.insert(h.node);
  }
  const std::string wanted = memory_text(shards * shard_mib);
  w.fits = fitting.size() >= nodes;
  if (w.fits) {
    w.reason = get(job, "Reason");
    w.sentence = fmt::format("{} on one GPU of each of {} nodes are free on {} nodes; what Slurm waits for is {}",
                             wanted, nodes, fitting.size(), w.reason);
  } else if (shards > u.largest_total) {
    w.reason = "DeviceTooSmall";
    w.sentence = fmt::format("{} on one GPU are wanted, and the largest GPU has {}", wanted,
                             memory_text(u.largest_total * shard_mib));
  } else {
    w.reason = "GangNoFitInCluster";
    w.sentence =
        fmt::format("{} on one GPU of each of {} nodes are wanted, and free on {}; the largest hole is {} on {} GPU {}",
                    wanted, nodes, fitting.size(), memory_text(largest == nullptr ? 0 : largest->shards * shard_mib),
                    largest == nullptr ? "-" : largest->node, largest == nullptr ? 0 : largest->gpu);
  }
  return w;
}

}  // namespace thole::slurm
