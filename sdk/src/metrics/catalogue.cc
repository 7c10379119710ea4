#include "metrics/catalogue.h"

#include <algorithm>
#include <cmath>

namespace thole::metrics {

family_state *catalogue::find_or_add(const definition &d) {
  const auto known = families_.find(d.name);
  if (known != families_.end()) return agree(known->second->what, d) ? known->second.get() : nullptr;
  auto &made = families_[d.name] = std::make_unique<family_state>();
  made->what = d;
  return made.get();
}

family_state &catalogue::replace(const definition &d) {
  auto &there = families_[d.name];
  if (there) replaced_.push_back(std::move(there));
  there = std::make_unique<family_state>();
  there->what = d;
  return *there;
}

placed catalogue::place(family_state &family, label_values values) {
  placed out{std::move(values), nullptr, false};
  const auto known = family.series.find(out.values);
  if (known == family.series.end() && !out.values.empty() && family.series.size() >= family.what.max_series) {
    const label_values all(out.values.size(), std::string(overflow));
    out.dropped = out.values != all;
    out.values = all;
  }
  out.state = &family.series[out.values];
  return out;
}

void add(sample &to, const sample &more, kind what) {
  to.value += more.value;
  if (what != kind::histogram) return;
  to.buckets.resize(std::max(to.buckets.size(), more.buckets.size()));
  for (std::size_t i = 0; i < more.buckets.size(); ++i) to.buckets[i] += more.buckets[i];
}

namespace {

// What a file says now, as far as it can be true after what it has said before.
void advance(sample &said, const sample &now, kind what) {
  if (what == kind::gauge) {
    said = now;
    return;
  }
  if (what == kind::counter) {
    if (std::isfinite(now.value) && now.value > said.value) said.value = now.value;
    return;
  }
  said.value = now.value;
  said.buckets.resize(now.buckets.size());
  for (std::size_t i = 0; i < now.buckets.size(); ++i) said.buckets[i] = std::max(said.buckets[i], now.buckets[i]);
}

}  // namespace

void source::update(const file_content &content, catalogue &into,
                    const std::function<void(const std::string &)> &dropped) {
  mark_ = content.mark;
  std::vector<family_state *> families;
  for (const definition &d : content.families)
    families.push_back(into.full() && !into.families().contains(d.name) ? nullptr : into.find_or_add(d));
  for (std::size_t i = entries_.size(); i < content.series.size(); ++i) {
    const file_series &s = content.series[i];
    entry made;
    made.family = families[s.family];
    if (made.family == nullptr) {
      dropped(content.families[s.family].name);
    } else {
      made.at = catalogue::place(*made.family, s.values);
      made.at.state->users += 1;
      if (made.at.dropped) dropped(made.family->what.name);
    }
    entries_.push_back(std::move(made));
  }
  for (std::size_t i = 0; i < entries_.size() && i < content.series.size(); ++i)
    if (entry &e = entries_[i];
        e.family != nullptr && e.family->what.buckets() == content.series[i].said.buckets.size())
      advance(e.said, content.series[i].said, e.family->what.what);
}

void source::retire() {
  for (entry &e : entries_) {
    if (e.family == nullptr) continue;
    series_state &state = *e.at.state;
    state.users -= 1;
    if (e.family->what.what != kind::gauge) {
      add(state.kept, e.said, e.family->what.what);
      state.has_kept = true;
    } else if (state.users == 0) {
      e.family->series.erase(e.at.values);  // room for another one
    }
  }
  entries_.clear();
}

}  // namespace thole::metrics
