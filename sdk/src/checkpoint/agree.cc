// Whether the parts that ranks sealed, each for itself, make one checkpoint.
#include <algorithm>
#include <map>

#include "base/text.h"
#include "checkpoint/contents.h"

namespace thole::checkpoint {
namespace {

struct found {
  uint32_t part;
  part_item item;
};

result<> check_heads(const std::vector<found> &all) {
  const item_head &first = all.front().item.head;
  for (const found &f : all) {
    const item_head &h = f.item.head;
    if (h.kind != first.kind || h.dtype != first.dtype || h.shape != first.shape)
      return fail(reason::PartsDisagree, "'{}' has another kind, dtype or shape in part {} than in part {}", first.name,
                  f.part, all.front().part);
  }
  return {};
}

// Of items that several parts hold whole, the first stands for all, if all are equal.
result<std::vector<segment>> one_of_equals(const std::vector<found> &all) {
  const found &first = all.front();
  for (const found &f : all)
    if (f.item.length != first.item.length || f.item.digest != first.item.digest ||
        (all.size() > 1 && f.item.digest.empty()))
      return fail(reason::PartsDisagree, "'{}' is not the same in part {} as in part {}", first.item.head.name, f.part,
                  first.part);
  return std::vector<segment>{{first.part, first.item.where, first.item.offset, first.item.length}};
}

result<std::vector<segment>> cut_over_parts(const std::vector<found> &all) {
  const item_head &head = all.front().item.head;
  std::vector<segment> out;
  std::vector<box> boxes;
  for (const found &f : all) {
    if (f.item.length == 0) continue;  // a rank without a row
    out.push_back({f.part, f.item.where, f.item.offset, f.item.length});
    boxes.push_back(f.item.where);
  }
  THOLE_LET(const covering covered, cover(boxes, head.shape));
  if (covered != covering::exact)
    return fail(
        reason::PartsDisagree,
        "the boxes of '{}' in {} parts do not cover its shape exactly: save every row once, or the whole tensor "
        "on each rank",
        head.name, all.size());
  std::sort(out.begin(), out.end(), [](const segment &a, const segment &b) { return a.where < b.where; });
  return out;
}

result<std::vector<segment>> place(const std::vector<found> &all) {
  const item_head &head = all.front().item.head;
  const bool whole = std::all_of(all.begin(), all.end(), [&](const found &f) {
    return head.kind != item_kind::tensor || is_whole(f.item.where, head.shape);
  });
  if (whole) return one_of_equals(all);
  return cut_over_parts(all);
}

}  // namespace

result<std::vector<manifest_item>> agree(std::vector<std::vector<part_item>> parts) {
  std::map<std::string, std::vector<found>> by_name;
  for (uint32_t p = 0; p < parts.size(); ++p)
    for (part_item &i : parts[p]) {
      auto &all = by_name[i.head.name];
      if (!all.empty() && all.back().part == p)
        return fail(reason::PartsDisagree, "'{}' stands twice in part {}", i.head.name, p);
      all.push_back({p, std::move(i)});
    }
  std::vector<manifest_item> out;
  out.reserve(by_name.size());
  for (auto &[name, all] : by_name) {
    THOLE_TRY(check_heads(all));
    manifest_item item;
    THOLE_LET(item.segments, place(all));
    item.head = std::move(all.front().item.head);
    out.push_back(std::move(item));
  }
  return out;
}

}  // namespace thole::checkpoint
