// Metrics files: whatever is accepted can be folded in and rendered, and counters do not fall.
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/text.h"
#include "metrics/catalogue.h"
#include "metrics/layout.h"
#include "metrics/text.h"

namespace {

using namespace thole::metrics;

void check(const std::string &bytes) {
  const auto content = parse(bytes, "fuzz");
  if (!content) return;
  catalogue all;
  const auto dropped = [](const std::string &) {};
  source from(content->mark, "fuzz");
  from.update(*content, all, dropped);
  from.update(*content, all, dropped);
  std::map<std::string, family_sum> sums;
  from.each([&](const family_state &family, const label_values &values, const sample &said) {
    if (family.what.what == kind::counter && !(said.value >= 0 && std::isfinite(said.value))) std::abort();
    family_sum &sum = sums[family.what.name];
    sum.what = &family.what;
    add(sum.series[values], said, family.what.what);
  });
  for (const auto &[name, family] : all.families())
    if (family->series.size() > std::size_t{family->what.max_series} + 1) std::abort();
  if (!thole::is_utf8(to_text(sums))) std::abort();
  from.retire();
}

// The input as blocks behind a header that is right.
std::string with_header(std::string_view blocks) {
  layout::header h{};
  std::memcpy(h.magic, layout::magic, sizeof h.magic);
  h.version = layout::version;
  h.state = layout::open;
  h.used = layout::header_size + layout::rounded(blocks.size());
  std::string out(h.used, '\0');
  std::memcpy(out.data(), &h, sizeof h);
  std::memcpy(out.data() + layout::header_size, blocks.data(), blocks.size());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char *>(data), size);
  check(std::string(bytes));
  if (size > 0) check(with_header(bytes));
  return 0;
}
