// What the boundary costs: a call through the library's table, with its checks of handle, fork and size, beside the
// same function called directly, without a library, a table or a handle in between. Prints nanoseconds at p50 and p99
// of the quietest of some rounds, and counts the allocations of the success path.
//
// The call is gang.cancel of a gang that holds nothing: it takes a core, an id and a status, takes the ledger's lock
// and looks into an empty map. The peer is the ledger's own method in this program; the limit is an empty function
// behind a pointer.
#include <thole/thole.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/instance.h"

namespace {

bool counting = false;
long allocations = 0;

}  // namespace

extern "C" {
void *__libc_malloc(size_t);
// Found before the C library's, by the core too.
void *malloc(size_t size) {
  if (counting) ++allocations;
  return __libc_malloc(size);
}
}

namespace {

constexpr int calls = 1000;
constexpr int samples = 400;  // of each call, in each round
constexpr int rounds = 15;

struct times {
  double p50, p99;
};

times percentiles(std::vector<double> &taken) {
  std::sort(taken.begin(), taken.end());
  return {taken[taken.size() / 2], taken[taken.size() * 99 / 100]};
}

// Nanoseconds of one call: the mean over `calls`, so that the clock's own cost does not count.
template <class F>
double sample(F &f) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) f();
  const std::chrono::duration<double, std::nano> length = std::chrono::steady_clock::now() - begin;
  return length.count() / calls;
}

struct round_times {
  times floor, direct, table;
};

// The three calls in turn, sample by sample: what else runs on the processor meets all of them alike.
template <class Floor, class Direct, class Table>
round_times one_round(Floor &floor, Direct &direct, Table &table) {
  std::vector<double> taken[3];
  for (int i = 0; i < samples; ++i) {
    taken[0].push_back(sample(floor));
    taken[1].push_back(sample(direct));
    taken[2].push_back(sample(table));
  }
  return {percentiles(taken[0]), percentiles(taken[1]), percentiles(taken[2])};
}

thole_code empty(thole_core, thole_id, thole_status *) {
  return THOLE_OK;
}

void print(const char *id, double ours, const char *unit, double peer, double limit, const char *goal) {
  auto text = [](double v) {
    static char room[4][32];
    static int at = 0;
    char *to = room[at++ % 4];
    if (v < 0) snprintf(to, 32, "null");
    else snprintf(to, 32, "%.3f", v);
    return to;
  };
  printf("{\"id\":\"%s\",\"ours\":%.3f,\"unit\":\"%s\",\"peer\":%s,\"limit\":%s,\"ratio\":%s,\"goal\":\"%s\"}\n", id,
         ours, unit, text(peer), text(limit), text(peer > 0 ? ours / peer : -1), goal);
}

}  // namespace

int main() {
  const thole_root *root = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr);
  thole_core core{};
  if (root == nullptr || root->core->open(nullptr, &core, nullptr) != THOLE_OK) return 1;
  const thole_id gang{1, 2};
  thole_status status{};
  status.struct_size = sizeof status;

  thole_code (*volatile through_pointer)(thole_core, thole_id, thole_status *) = empty;
  auto opened = thole::instance::open({});
  if (!opened) return 1;
  thole::gang::engine *volatile engine = (*opened)->gangs.get();
  const thole_gang_api *volatile table = root->gang;

  long wrong = 0;
  auto floor_call = [&] { wrong += through_pointer(core, gang, &status) != THOLE_OK; };
  auto direct_call = [&] { wrong += !engine->cancel(thole::id128{gang.hi, gang.lo}).has_value(); };
  auto table_call = [&] { wrong += table->cancel(core, gang, &status) != THOLE_OK; };
  one_round(floor_call, direct_call, table_call);  // warm
  std::vector<round_times> all;
  for (int i = 0; i < rounds; ++i) all.push_back(one_round(floor_call, direct_call, table_call));
  // Other work only adds time, so the round in which both calls together took least was disturbed least.
  const round_times &quiet = *std::min_element(all.begin(), all.end(), [](const auto &a, const auto &b) {
    return a.direct.p50 + a.table.p50 < b.direct.p50 + b.table.p50;
  });
  const times least = quiet.floor, peer = quiet.direct, ours = quiet.table;

  allocations = 0;
  counting = true;
  for (int i = 0; i < calls; ++i) table_call();
  counting = false;
  const double allocated = static_cast<double>(allocations) / calls;
  if (wrong != 0 || root->core->close(core, nullptr) != THOLE_OK) return 1;

  print("boundary.call.p50", ours.p50, "ns", peer.p50, least.p50, "");
  print("boundary.call.p99", ours.p99, "ns", peer.p99, least.p99, "");
  print("boundary.added.p50", ours.p50 - peer.p50, "ns", -1, -1, "<= 5");
  print("boundary.allocations", allocated, "a call", -1, -1, "<= 0");
  return 0;
}
