#include "metrics/registry.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "metrics/text.h"

namespace thole::metrics {
namespace {

constexpr std::size_t most_sources = 65536;
constexpr std::size_t most_finished = 1'000'000;

// Writes fields one after another into a block that is large enough.
class writer {
 public:
  explicit writer(char *to) : to_(to) {}
  template <class T>
  void put(const T &value) {
    std::memcpy(to_, &value, sizeof value);
    to_ += sizeof value;
  }
  void text(std::string_view s) {
    if (!s.empty()) std::memcpy(to_, s.data(), s.size());
    to_ += s.size();
  }
  void sized(std::string_view s) {
    put(static_cast<uint32_t>(s.size()));
    text(s);
  }

 private:
  char *to_;
};

sample read_cell(thole_cell &cell) {
  sample s;
  s.value = std::atomic_ref(cell.value).load(std::memory_order_relaxed);
  if (cell.buckets == nullptr) return s;
  s.buckets.resize(cell.bound_count + 1);
  for (std::size_t i = 0; i < s.buckets.size(); ++i)
    s.buckets[i] = std::atomic_ref(cell.buckets[i]).load(std::memory_order_relaxed);
  return s;
}

constexpr std::string_view dropped_name = "thole_metrics_dropped_series";

definition dropped_definition() {
  definition d;
  d.name = dropped_name;
  d.help = "Series that were counted into a family's overflow series, or not at all.";
  d.max_series = static_cast<uint32_t>(most_families);
  d.labels = {"family"};
  return d;
}

}  // namespace

result<std::unique_ptr<registry>> registry::open(const std::string &file) {
  auto made = std::make_unique<registry>();
  if (!file.empty()) {
    THOLE_LET(segment s, segment::make(file));
    made->memory_.emplace(std::move(s));
  }
  return made;
}

// A core that counts nothing has no pages for it.
result<segment *> registry::memory() {
  if (!memory_) {
    THOLE_LET(segment s, segment::make(""));
    memory_.emplace(std::move(s));
  }
  return &*memory_;
}

result<uint32_t> registry::define(definition d) {
  THOLE_TRY(check(d));
  const std::lock_guard held(lock_);
  return define_here(std::move(d));
}

result<uint32_t> registry::define_here(definition d) {
  for (std::size_t i = 0; i < own_.size(); ++i) {
    if (own_[i].known->what.name != d.name) continue;
    if (agree(own_[i].known->what, d)) return static_cast<uint32_t>(i);
    return fail(reason::MetricDiffers, "{} is defined already with another kind, unit, labels or bounds", d.name);
  }
  // Families that were only collected do not count: a job's script must not keep its platform from having its own.
  if (own_.size() >= most_families)
    return fail(reason::MetricsFull, "{} families are defined, which is the most", most_families);
  const auto number = static_cast<uint32_t>(own_.size());
  THOLE_LET(const double *bounds, write_family(number, d));
  family_state *family = known_.find_or_add(d);
  if (family == nullptr) family = &known_.replace(d);
  else family->what = d;  // ours is the cap
  own_.push_back({family, bounds, {}});
  return number;
}

result<const double *> registry::write_family(uint32_t number, const definition &d) {
  THOLE_LET(segment * memory, this->memory());
  uint64_t size =
      sizeof(layout::family_block) + d.bounds.size() * sizeof(double) + d.name.size() + d.help.size() + d.unit.size();
  for (const std::string &label : d.labels) size += sizeof(uint32_t) + label.size();
  THOLE_LET(char *block, memory->reserve(layout::family, size));
  layout::family_block h{};
  std::memcpy(&h.head, block, sizeof h.head);
  h.number = number;
  h.kind = static_cast<int32_t>(d.what);
  h.max_series = d.max_series;
  h.labels = static_cast<uint32_t>(d.labels.size());
  h.bounds = static_cast<uint32_t>(d.bounds.size());
  h.name_size = static_cast<uint32_t>(d.name.size());
  h.help_size = static_cast<uint32_t>(d.help.size());
  h.unit_size = static_cast<uint32_t>(d.unit.size());
  writer out(block);
  out.put(h);
  for (const double bound : d.bounds) out.put(bound);
  out.text(d.name);
  out.text(d.help);
  out.text(d.unit);
  for (const std::string &label : d.labels) out.sized(label);
  memory->publish();
  return reinterpret_cast<const double *>(block + sizeof h);
}

result<thole_cell *> registry::bind(uint32_t family, std::span<const std::string_view> values) {
  const std::lock_guard held(lock_);
  if (family >= own_.size()) return fail(reason::MetricBad, "family {} was not defined in this core", family);
  THOLE_TRY(check_values(own_[family].known->what, values));
  return bind_here(family, label_values(values.begin(), values.end()));
}

result<thole_cell *> registry::bind_here(uint32_t family, label_values values) {
  if (const auto known = own_[family].cells.find(values); known != own_[family].cells.end()) return known->second;
  family_state &state = *own_[family].known;
  const bool was_there = state.series.contains(values);
  const placed at = catalogue::place(state, values);
  if (at.dropped) {
    count_dropped(state.what.name);
    if (const auto known = own_[family].cells.find(at.values); known != own_[family].cells.end()) return known->second;
  }
  auto cell = write_series(family, at.values);
  if (!cell) {
    if (!was_there && at.state->users == 0 && !at.state->has_kept) state.series.erase(at.values);
    return cell;
  }
  at.state->users += 1;
  own_[family].cells.emplace(at.values, *cell);
  return cell;
}

result<thole_cell *> registry::write_series(uint32_t number, const label_values &values) {
  const definition &d = own_[number].known->what;
  THOLE_LET(segment * memory, this->memory());
  uint64_t texts = sizeof(layout::series_block);
  for (const std::string &value : values) texts += sizeof(uint32_t) + value.size();
  const uint64_t cell_at = layout::rounded(texts);
  THOLE_LET(char *block, memory->reserve(layout::series, cell_at + layout::unit + d.buckets() * sizeof(uint64_t)));
  layout::series_block h{};
  std::memcpy(&h.head, block, sizeof h.head);
  h.family = number;
  h.values = static_cast<uint32_t>(values.size());
  h.cell = static_cast<uint32_t>(cell_at);
  h.buckets = static_cast<uint32_t>(d.buckets());
  writer out(block);
  out.put(h);
  for (const std::string &value : values) out.sized(value);
  auto *cell = new (block + cell_at) thole_cell{};
  if (d.what == kind::histogram) {
    cell->buckets = reinterpret_cast<uint64_t *>(block + cell_at + layout::unit);
    cell->bounds = own_[number].bounds;
    cell->bound_count = d.bounds.size();
  }
  memory->publish();
  return cell;
}

// That it cannot be counted (memory or disk is full) must not make the call fail that ran into the bound.
void registry::count_dropped(const std::string &family) {
  const auto number = define_here(dropped_definition());
  if (!number || family == dropped_name) return;
  if (auto cell = bind_here(*number, {family})) thole_counter_add(*cell, 1);
}

// What source i has said stays; it says nothing more.
void registry::forget(std::size_t i) {
  sources_[i]->retire();
  finished_.insert(sources_[i]->mark().generation);
  sources_.erase(sources_.begin() + static_cast<std::ptrdiff_t>(i));
}

// Processes whose file has gone, or has been replaced by another process's.
void registry::forget_file(const std::string &file, id128 except) {
  for (std::size_t i = sources_.size(); i > 0; --i)
    if (sources_[i - 1]->file() == file && sources_[i - 1]->mark().generation != except) forget(i - 1);
}

void registry::forget_generation(id128 generation) {
  for (std::size_t i = 0; i < sources_.size(); ++i)
    if (sources_[i]->mark().generation == generation) return forget(i);
}

result<source *> registry::source_of(const file_mark &mark, const std::string &file) {
  const auto earlier = [](const std::unique_ptr<source> &a, const file_mark &b) {
    return std::pair(a->mark().made_ns, a->mark().generation) < std::pair(b.made_ns, b.generation);
  };
  for (const auto &known : sources_)
    if (known->mark().generation == mark.generation) return known.get();
  if (sources_.size() >= most_sources || finished_.size() >= most_finished)
    return fail(reason::MetricsFull, "the files of {} living and {} other processes were collected, which is the most",
                sources_.size(), finished_.size());
  const auto place = std::lower_bound(sources_.begin(), sources_.end(), mark, earlier);
  return sources_.insert(place, std::make_unique<source>(mark, file))->get();
}

result<> registry::collect(const std::string &file) {
  const std::lock_guard held(lock_);
  const auto mark = read_mark(file);
  if (!mark) {
    // Gone, or no metrics file any more. With an errno it may only be that it cannot be read now.
    if (mark.error().why == reason::MetricsFileMissing || mark.error().os_errno == 0) forget_file(file, id128{});
    return tl::unexpected(mark.error());
  }
  if (memory_ && mark->generation == memory_->generation()) return {};
  if (finished_.contains(mark->generation)) return {};
  // Asked before the content is read: what a process that is gone by now has written is then read whole.
  const bool alive = mark->open && lives(mark->process);
  const auto read = read_content(file);
  if (!read) {
    if (!alive && read.error().os_errno == 0) forget_generation(mark->generation);
    return tl::unexpected(read.error());
  }
  const file_content &content = *read;
  if (content.mark.generation != mark->generation)
    return fail(reason::MetricsFileBad, "{} was replaced while it was read: collect it again", file);
  forget_file(file, mark->generation);
  THOLE_LET(source * from, source_of(*mark, file));
  from->update(content, known_, [&](const std::string &family) { count_dropped(family); });
  if (!alive) forget_generation(mark->generation);
  return {};
}

std::string registry::render() const {
  const std::lock_guard held(lock_);
  std::map<std::string, family_sum> sums;
  for (const auto &[name, family] : known_.families()) {
    family_sum &sum = sums[name];
    sum.what = &family->what;
    for (const auto &[values, state] : family->series)
      if (state.has_kept) sum.series[values] = state.kept;
  }
  const auto more = [&](const family_state &family, const label_values &values, const sample &said) {
    family_sum &sum = sums[family.what.name];
    if (sum.what != &family.what) return;  // replaced by a definition of our own
    sample &to = sum.series[values];
    if (family.what.what == kind::gauge) to = said;  // the newest process's counts
    else add(to, said, family.what.what);
  };
  for (const auto &s : sources_) s->each(more);
  for (const own_family &own : own_)
    for (const auto &[values, cell] : own.cells) more(*own.known, values, read_cell(*cell));
  return metrics::to_text(sums);
}

}  // namespace thole::metrics
