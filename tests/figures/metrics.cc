// What a bound counter and a bound histogram cost, alone and shared by two threads, beside prometheus-cpp where its
// headers are installed. Cells lie in a mapped file, as a rank's do. JSON lines.
#include <thole/core.h>
#include <thole/draft/metrics.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#if __has_include(<prometheus/histogram.h>) && defined(THOLE_HAVE_PROMETHEUS_CPP)
#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#define THOLE_PEER 1
#endif

namespace {

constexpr int repeats = 7;
constexpr uint64_t operations = 2'000'000;
const std::vector<double> bounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60};

// ns of one operation as one thread sees it: the median of several runs.
template <class Work>
double cost(int threads, Work work) {
  std::vector<double> runs;
  for (int r = 0; r < repeats; ++r) {
    std::atomic<int> ready{0};
    std::vector<std::thread> all;
    std::vector<double> each(static_cast<std::size_t>(threads));
    for (int t = 0; t < threads; ++t)
      all.emplace_back([&, t] {
        ready.fetch_add(1);
        while (ready.load() < threads) {
        }
        const auto begin = std::chrono::steady_clock::now();
        for (uint64_t i = 0; i < operations; ++i) work(i);
        const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
        each[static_cast<std::size_t>(t)] = spent.count() / static_cast<double>(operations);
      });
    for (auto &t : all) t.join();
    runs.push_back(*std::max_element(each.begin(), each.end()));
  }
  std::sort(runs.begin(), runs.end());
  return runs[runs.size() / 2];
}

// Values that fall into different buckets.
double observed(uint64_t i) {
  return 0.0007 * static_cast<double>(i & 0xFFF);
}

void print(const char *what, int threads, double ours, std::optional<double> peer) {
  std::printf("{\"id\": \"metrics.%s.%dt\", \"ours\": %.2f, \"unit\": \"ns\", ", what, threads, ours);
  if (peer) std::printf("\"peer\": %.2f, \"limit\": null, \"ratio\": %.3f, \"goal\": null}\n", *peer, ours / *peer);
  else std::printf("\"peer\": null, \"limit\": null, \"ratio\": null, \"goal\": null}\n");
}

[[noreturn]] void stop(const thole_status &s) {
  std::fprintf(stderr, "%s: %s\n", s.reason, s.message);
  std::exit(1);
}

thole_cell *cell(const thole_root &root, thole_core core, const char *name, thole_metric_kind kind) {
  thole_status s{};
  s.struct_size = sizeof s;
  thole_family f{};
  f.struct_size = sizeof f;
  f.name = {name, std::char_traits<char>::length(name)};
  f.kind = kind;
  if (kind == THOLE_METRIC_HISTOGRAM) f.bounds = bounds.data(), f.bound_count = bounds.size();
  uint32_t family = 0;
  thole_cell *out = nullptr;
  const thole_list none{};
  if (root.metrics->define(core, &f, &family, &s) != THOLE_OK) stop(s);
  if (root.metrics->bind(core, family, &none, &out, &s) != THOLE_OK) stop(s);
  return out;
}

std::optional<double> peer_counter([[maybe_unused]] int threads) {
#ifdef THOLE_PEER
  prometheus::Counter c;
  return cost(threads, [&](uint64_t) { c.Increment(); });
#else
  return std::nullopt;
#endif
}

std::optional<double> peer_histogram([[maybe_unused]] int threads) {
#ifdef THOLE_PEER
  prometheus::Histogram h(prometheus::Histogram::BucketBoundaries(bounds.begin(), bounds.end()));
  return cost(threads, [&](uint64_t i) { h.Observe(observed(i)); });
#else
  return std::nullopt;
#endif
}

}  // namespace

int main() {
  thole_status s{};
  s.struct_size = sizeof s;
  const thole_root *root = thole_entry_v1(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, &s);
  if (root == nullptr || root->metrics == nullptr) stop(s);
  const char *folder = std::getenv("TMPDIR");
  const std::string file = std::string(folder ? folder : "/tmp") + "/thole-figure-" + std::to_string(getpid());
  thole_core_options options{};
  options.struct_size = sizeof options;
  options.metrics = {file.data(), file.size()};
  thole_core core{};
  if (root->core->open(&options, &core, &s) != THOLE_OK) stop(s);
  thole_cell *counter = cell(*root, core, "figure_counter", THOLE_METRIC_COUNTER);
  thole_cell *histogram = cell(*root, core, "figure_histogram", THOLE_METRIC_HISTOGRAM);
  for (const int threads : {1, 2}) {
    print("counter_add", threads, cost(threads, [&](uint64_t) { thole_counter_add(counter, 1); }),
          peer_counter(threads));
    print("histogram_observe", threads,
          cost(threads, [&](uint64_t i) { thole_histogram_observe(histogram, observed(i)); }), peer_histogram(threads));
  }
  const bool exact = counter->value == static_cast<double>(operations) * repeats * 3;
  root->core->close(core, nullptr);
  unlink(file.c_str());
  if (!exact) std::fprintf(stderr, "additions were lost\n");
  return exact ? 0 : 1;
}
