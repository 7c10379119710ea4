// thole/draft/metrics.h.
#include <thole/draft/metrics.h>

#include <vector>

#include "capi/args.h"
#include "capi/guard.h"
#include "capi/room.h"
#include "capi/tables.h"
#include "metrics/registry.h"

namespace thole {
namespace {

constexpr uint64_t most_text = 4096;  // the registry's own bounds are lower, and have their own sentences
constexpr uint64_t most_path = 4096;

result<std::vector<std::string_view>> take_texts(const thole_list &list, std::string_view what) {
  THOLE_TRY(check_list(list, sizeof(thole_str), metrics::most_labels, what));
  std::vector<std::string_view> out;
  for (uint64_t i = 0; i < list.count; ++i) {
    THOLE_LET(const std::string_view text, take_text(*THOLE_AT(list, thole_str, i), most_text, what));
    out.push_back(text);
  }
  return out;
}

result<metrics::definition> take_definition(const thole_family *given) {
  THOLE_LET(const thole_family f, take(given, "definition"));
  metrics::definition d;
  THOLE_LET(d.name, take_text(f.name, most_text, "definition.name"));
  THOLE_LET(d.help, take_text(f.help, most_text, "definition.help"));
  THOLE_LET(d.unit, take_text(f.unit, most_text, "definition.unit"));
  THOLE_LET(const auto labels, take_texts(f.labels, "definition.labels"));
  d.labels.assign(labels.begin(), labels.end());
  d.what = static_cast<metrics::kind>(f.kind);
  d.max_series = f.max_series;
  if (f.bound_count > metrics::most_bounds)
    return fail(reason::OverBound, "definition has {} bounds; {} are the most", f.bound_count, metrics::most_bounds);
  if (f.bound_count > 0 && f.bounds == nullptr)
    return fail(reason::ArgumentMissing, "definition.bounds is NULL with bound_count {}", f.bound_count);
  if (f.bound_count > 0) d.bounds.assign(f.bounds, f.bounds + f.bound_count);
  return d;
}

thole_code define(thole_core core, const thole_family *definition, uint32_t *family, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    if (family == nullptr) return fail(reason::ArgumentMissing, "family is NULL");
    THOLE_LET(auto d, take_definition(definition));
    THOLE_LET(*family, in.metrics->define(std::move(d)));
    return {};
  });
}

thole_code bind(thole_core core, uint32_t family, const thole_list *values, thole_cell **cell, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    if (cell == nullptr) return fail(reason::ArgumentMissing, "cell is NULL");
    if (values == nullptr) return fail(reason::ArgumentMissing, "values is NULL");
    THOLE_LET(const auto texts, take_texts(*values, "values"));
    THOLE_LET(*cell, in.metrics->bind(family, texts));
    return {};
  });
}

thole_code collect(thole_core core, thole_str file, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    THOLE_LET(const std::string_view path, take_text(file, most_path, "file"));
    if (path.empty()) return fail(reason::ArgumentMissing, "file is empty");
    return in.metrics->collect(std::string(path));
  });
}

thole_code render(thole_core core, thole_str *text, thole_buffer *buffer, thole_status *status) {
  return with_core(core, status, [&](instance &in) -> result<> {
    if (text == nullptr) return fail(reason::ArgumentMissing, "text is NULL");
    room r(buffer);
    THOLE_TRY(r.check());
    const thole_str rendered = r.text(in.metrics->render());
    THOLE_TRY(r.finish());
    *text = rendered;
    return {};
  });
}

constexpr thole_metrics_api table = {sizeof(thole_metrics_api), define, bind, collect, render};

}  // namespace

constinit const thole_metrics_api metrics_table = table;

}  // namespace thole
