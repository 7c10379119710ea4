// metrics/text.h: OpenMetrics 1.0 text.
#pragma once

#include <map>
#include <string>

#include "metrics/catalogue.h"

namespace thole::metrics {

// Families in the order of names, series in the order of values, "# EOF" at the end.
std::string to_text(const std::map<std::string, family_sum> &families);

// The shortest form that reads back as the same bits.
std::string number_text(double value);
// The same for the label `le`, whose one form OpenMetrics prescribes: 1.0, 0.1, 1e+06.
std::string bound_text(double bound);

}  // namespace thole::metrics
