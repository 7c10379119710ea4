// The first pools were written as `apiVersion: v1`. They are read for ever, and converted.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "model/pool.h"
#include "model/quantity.h"

namespace thole::model {
namespace {

using yaml::kind;
using yaml::node;

// What a card that is sold as so many GB reports. Only what is known.
struct card {
  std::string_view sold;
  std::string_view reports;
};
constexpr card cards[] = {{"80gb", "81559Mi"}};

std::string_view reported_by(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const card &c : cards)
    if (text.find(c.sold) != text.npos || text == c.sold.substr(0, c.sold.size() - 1) ||
        text == fmt::format("{}i", c.sold.substr(0, c.sold.size() - 1)))
      return c.reports;
  return {};
}

struct renaming {
  std::string_view from;
  std::string_view to;
};
constexpr renaming top_names[] = {{"gpu", "gpus"}};
constexpr renaming vgpu_names[] = {{"partitions", "count"}, {"memoryPerPartition", "memory"}};

template <std::size_t N>
void rename(node &map, const renaming (&names)[N]) {
  for (node &child : map.children)
    for (const renaming &r : names)
      if (child.key == r.from && map.find(r.to) == nullptr) child.key = r.to;
}

// `vgpu.memory: 10Gi` as one key is vgpu: {memory: 10Gi}.
void nest_dotted(node &map) {
  std::vector<node> out;
  for (node &child : map.children) {
    const std::size_t dot = child.key.find('.');
    if (dot == std::string::npos) {
      out.push_back(std::move(child));
      continue;
    }
    const std::string outer = child.key.substr(0, dot);
    auto parent = std::find_if(out.begin(), out.end(), [&](const node &n) { return n.key == outer; });
    if (parent == out.end()) {
      node fresh;
      fresh.what = kind::map;
      fresh.at = child.at;
      fresh.key = outer;
      fresh.key_at = child.key_at;
      parent = out.insert(out.end(), std::move(fresh));
    }
    child.key = child.key.substr(dot + 1);
    if (parent->is_map()) parent->children.push_back(std::move(child));
  }
  map.children = std::move(out);
}

node scalar(std::string_view key, std::string_view text, const node &like) {
  node n;
  n.what = kind::string;
  n.quoted = true;
  n.key = key;
  n.text = text;
  n.at = like.at;
  n.key_at = like.key_at;
  return n;
}

// The size that is sold becomes the size that is reported.
void put_reported_memory(node &gpus) {
  const auto memory =
      std::find_if(gpus.children.begin(), gpus.children.end(), [](const node &n) { return n.key == "memory"; });
  if (memory != gpus.children.end()) {
    if (const std::string_view reports = reported_by(memory->text); !reports.empty()) {
      memory->text = reports;
      memory->what = kind::string;
    }
    return;
  }
  const node *model = gpus.find("model");
  if (model == nullptr) return;
  if (const std::string_view reports = reported_by(model->text); !reports.empty())
    gpus.children.push_back(scalar("memory", reports, *model));
}

std::string flow(const node &n) {
  if (!n.is_map() && !n.is_sequence()) return n.text;
  std::string out;
  for (const node &child : n.children)
    out += fmt::format("{}{}{}", out.empty() ? "" : ", ", n.is_map() ? child.key + ": " : "", flow(child));
  return n.is_map() ? "{" + out + "}" : "[" + out + "]";
}

}  // namespace

node convert_seed_pool(node root, yaml::problems &found) {
  const auto named = [](node &map, std::string_view key) {
    return std::find_if(map.children.begin(), map.children.end(), [&](const node &n) { return n.key == key; });
  };
  const auto version = named(root, "apiVersion");
  version->text = "thole.dev/v1alpha1";
  const auto spec = named(root, "spec");
  if (spec == root.children.end() || !spec->is_map()) return root;
  nest_dotted(*spec);
  rename(*spec, top_names);
  if (const auto taints = named(*spec, "taints"); taints != spec->children.end()) {
    found.remark(reason::Ignored, taints->key_at, "spec.taints", "taints are the cluster's: they have no effect here");
    spec->children.erase(taints);
  }
  if (const auto vgpu = named(*spec, "vgpu"); vgpu != spec->children.end() && vgpu->is_map()) rename(*vgpu, vgpu_names);
  if (const auto gpus = named(*spec, "gpus"); gpus != spec->children.end() && gpus->is_map())
    put_reported_memory(*gpus);
  std::string shown = flow(*spec);
  if (shown.size() > 300) shown = shown.substr(0, shown.find_last_of(',', 300)) + ", ...}";
  found.remark(reason::Converted, version->at, "apiVersion",
               "the form v1 was read and converted: write apiVersion: thole.dev/v1alpha1, spec: {}", shown);
  return root;
}

}  // namespace thole::model
