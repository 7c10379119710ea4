// metrics/catalogue.h: every family and series that render() knows, its own and those of other processes, and what the
// processes that are gone have left.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/id.h"
#include "base/status.h"
#include "metrics/definition.h"
#include "metrics/reader.h"

namespace thole::metrics {

using label_values = std::vector<std::string>;

struct series_state {
  sample kept;         // of processes that are gone; of counters and histograms
  uint32_t users = 0;  // living processes that have it, this one included
  bool has_kept = false;
};

struct family_state {
  definition what;
  std::map<label_values, series_state> series;
};

// A series' place in the catalogue.
struct placed {
  label_values values;
  series_state *state = nullptr;
  bool dropped = false;  // it is the overflow series, and was not asked for
};

// The text's view of a family: what render() has added up.
struct family_sum {
  const definition *what = nullptr;
  std::map<label_values, sample> series;
};

class catalogue {
 public:
  // The family of that name: the one that is there if they agree, else nullptr.
  family_state *find_or_add(const definition &d);
  // Puts a definition of this process in the place of a collected one that differs: what this process counts must not
  // depend on what a job's script happened to call its own.
  family_state &replace(const definition &d);
  bool full() const noexcept { return families_.size() >= most_families; }

  // The series with these values, or the overflow series if the family has as many as it may have.
  static placed place(family_state &family, label_values values);

  const std::map<std::string, std::unique_ptr<family_state>> &families() const noexcept { return families_; }

 private:
  std::map<std::string, std::unique_ptr<family_state>> families_;
  std::vector<std::unique_ptr<family_state>> replaced_;  // sources may still point there
};

// What another process said last.
class source {
 public:
  source(const file_mark &mark, std::string file) : mark_(mark), file_(std::move(file)) {}

  // Takes over what its file says now. Counters never fall: a file cannot take back what it has said. Calls `dropped`
  // with a family's name for each series that got no place of its own.
  void update(const file_content &content, catalogue &into, const std::function<void(const std::string &)> &dropped);
  // Its process is gone: counters stay in the catalogue for good, gauges end.
  void retire();

  const file_mark &mark() const noexcept { return mark_; }
  const std::string &file() const noexcept { return file_; }
  template <class Visit>
  void each(Visit visit) const {
    for (const entry &e : entries_)
      if (e.at.state != nullptr) visit(*e.family, e.at.values, e.said);
  }

 private:
  struct entry {
    family_state *family = nullptr;
    placed at;
    sample said;
  };
  file_mark mark_;
  std::string file_;
  std::vector<entry> entries_;  // in the order of the file, which only grows
};

// Adds what one more process says of a counter or a histogram.
void add(sample &to, const sample &more, kind what);

}  // namespace thole::metrics
