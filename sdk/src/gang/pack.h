// gang/pack.h: whether one node takes given numbers of members of several roles together. Exact, unless the bound on
// exploration is reached.
#pragma once

#include <span>
#include <vector>

#include "gang/cover.h"
#include "model/node.h"

namespace thole::gang {

// On yes and with `out`: out[i] are the grants of role i, those of one member after those of another.
verdict pack(const model::machine &node, std::span<const model::member_want> roles, std::span<const uint32_t> members,
             effort &budget, std::vector<std::vector<model::grant>> *out);

}  // namespace thole::gang
