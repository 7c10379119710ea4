// metrics/registry.h: the families and series of one core, and what it has collected of other processes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/id.h"
#include "base/status.h"
#include "metrics/catalogue.h"
#include "metrics/definition.h"
#include "metrics/segment.h"

namespace thole::metrics {

// Every call may come from any thread. Cells are written without one.
class registry {
 public:
  // An empty path keeps the cells in memory.
  static result<std::unique_ptr<registry>> open(const std::string &file);

  result<uint32_t> define(definition d);
  result<thole_cell *> bind(uint32_t family, std::span<const std::string_view> values);
  result<> collect(const std::string &file);
  std::string render() const;

 private:
  struct own_family {
    family_state *known = nullptr;
    const double *bounds = nullptr;  // in the segment, where they outlive this registry
    std::map<label_values, thole_cell *> cells;
  };

  // Each of these is called with the lock held.
  result<segment *> memory();
  result<uint32_t> define_here(definition d);
  result<thole_cell *> bind_here(uint32_t family, label_values values);
  result<const double *> write_family(uint32_t number, const definition &d);
  result<thole_cell *> write_series(uint32_t number, const label_values &values);
  void count_dropped(const std::string &family);
  void forget(std::size_t source_index);
  void forget_generation(id128 generation);
  result<source *> source_of(const file_mark &mark, const std::string &file);
  void forget_file(const std::string &file, id128 except);

  mutable std::mutex lock_;
  std::optional<segment> memory_;
  catalogue known_;
  std::vector<own_family> own_;
  std::vector<std::unique_ptr<source>> sources_;  // of processes that may live; by (made, generation)
  std::set<id128> finished_;                      // generations whose last word is in the catalogue
};

}  // namespace thole::metrics
