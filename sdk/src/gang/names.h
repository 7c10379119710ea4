// gang/names.h: texts as dense ids. A text once given out stays where it is for as long as the engine lives, so that
// answers can refer to it without copying.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

namespace thole::gang {

class names {
 public:
  names() { intern({}); }  // 0 is no name

  uint32_t intern(std::string_view text) {
    if (const auto it = ids_.find(text); it != ids_.end()) return it->second;
    const auto id = static_cast<uint32_t>(texts_.size());
    ids_.emplace(texts_.emplace_back(text), id);
    return id;
  }
  // no_name if it was never interned.
  uint32_t find(std::string_view text) const {
    const auto it = ids_.find(text);
    return it == ids_.end() ? no_name : it->second;
  }
  std::string_view text(uint32_t id) const { return texts_[id]; }
  std::size_t size() const { return texts_.size(); }

  static constexpr uint32_t no_name = ~uint32_t{0};

 private:
  std::deque<std::string> texts_;
  std::unordered_map<std::string_view, uint32_t> ids_;  // looked up, never walked
};

}  // namespace thole::gang
