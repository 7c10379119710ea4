// What every contract test is: a host. It finds the library as a scheduler would, by dlopen and its one symbol, and has
// a small world: a core with two nodes of four GPUs, a request that fits, a key and a store.
//
// THOLE_CONTRACT_LIBRARY names another library to test; that is how the specimens show that a test can fail.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <thole/draft/device.h>
#include <thole/draft/job.h>
#include <thole/draft/metrics.h>
#include <thole/draft/partition.h>
#include <thole/draft/recovery.h>
#include <thole/thole.h>

namespace host {

inline const char *library() {
  const char *other = getenv("THOLE_CONTRACT_LIBRARY");
  return other != nullptr ? other : THOLE_LIBRARY_FILE;
}

inline const thole_root *root() {
  static const thole_root *const found = [] {
    void *loaded = dlopen(library(), RTLD_NOW | RTLD_LOCAL);
    auto entry = loaded == nullptr ? nullptr : reinterpret_cast<thole_entry_v1_fn>(dlsym(loaded, THOLE_ENTRY_SYMBOL));
    const thole_root *answer = entry == nullptr ? nullptr : entry(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, nullptr);
    if (answer == nullptr) {
      fprintf(stderr, "%s: %s\n", library(), loaded == nullptr ? dlerror() : "no entry");
      _exit(2);
    }
    return answer;
  }();
  return found;
}

inline thole_str str(const std::string &s) {
  return {s.data(), s.size()};
}

inline std::string text(thole_str s) {
  return {s.data == nullptr ? "" : s.data, s.len};
}

template <class T>
T sized() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}

template <class T>
thole_list one(const T &value) {
  return {&value, 1, sizeof(T)};
}

template <class T>
thole_list list(const std::vector<T> &values) {
  return values.empty() ? thole_list{nullptr, 0, 0} : thole_list{values.data(), values.size(), sizeof(T)};
}

// Memory that is lent for an answer. It allocates none: some tests let every allocation fail.
struct lent {
  uint64_t words[1 << 15];
  thole_buffer room{words, sizeof words, 0};
};

// A folder that is gone with its end.
struct folder {
  std::string path;
  folder() {
    std::string name = std::filesystem::temp_directory_path() / "thole-contract.XXXXXX";
    path = mkdtemp(name.data());
  }
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  folder(const folder &) = delete;
  folder &operator=(const folder &) = delete;
};

struct world {
  folder place;
  thole_core core{};
  std::vector<thole_str> levels{THOLE_STR("rack")};
  std::vector<thole_str> domains{THOLE_STR("r1")};
  std::vector<std::string> uuids;
  std::vector<std::vector<thole_gpu>> gpus;
  std::vector<thole_node> nodes;
  std::vector<thole_role> roles;
  thole_gang_request request = sized<thole_gang_request>();
  std::string key_file, store_folder, helper;
  thole_key key = sized<thole_key>();
  thole_store store = sized<thole_store>();

  world() {
    uuids.reserve(8);
    for (int n = 0; n < 2; ++n) {
      auto &of_node = gpus.emplace_back();
      for (int g = 0; g < 4; ++g) {
        thole_gpu gpu = sized<thole_gpu>();
        gpu.uuid = str(uuids.emplace_back("SIM-" + std::to_string(n) + std::to_string(g)));
        gpu.model = THOLE_STR("simulated");
        gpu.memory_mib = 98304;
        gpu.context_mib = 512;
        gpu.flags = THOLE_GPU_SIMULATED;
        of_node.push_back(gpu);
      }
    }
    for (int n = 0; n < 2; ++n) {
      thole_node node = sized<thole_node>();
      node.name = n == 0 ? THOLE_STR("n0") : THOLE_STR("n1");
      node.domains = list(domains);
      node.cpu_milli = 64000;
      node.memory_mib = 262144;
      node.gpus = list(gpus[static_cast<std::size_t>(n)]);
      nodes.push_back(node);
    }
    thole_role role = sized<thole_role>();
    role.name = THOLE_STR("trainer");
    role.members = 4;
    role.device_kind = THOLE_KIND_VGPU;
    role.devices = 1;
    role.vgpu_share_milli = 250;
    role.vgpu_memory_mib = 10240;
    role.cpu_milli = 1000;
    role.memory_mib = 1024;
    roles.push_back(role);
    request.gang = {1, 2};
    request.roles = list(roles);

    key_file = place.path + "/key";
    store_folder = place.path + "/store";
    key.kind = THOLE_KEY_FILE;
    key.path = str(key_file);
    store.folder = str(store_folder);
    store.run = {3, 4};
    store.key = &key;
  }
  world(const world &) = delete;
  world &operator=(const world &) = delete;
  ~world() {
    if (core.v != 0) root()->core->close(core, nullptr);
  }

  // A core with the nodes in its ledger.
  void open() {
    thole_status status = sized<thole_status>();
    ASSERT_EQ(root()->core->open(nullptr, &core, &status), THOLE_OK) << status.message;
    const thole_list names = list(levels), all = list(nodes);
    ASSERT_EQ(root()->gang->set_levels(core, &names, &status), THOLE_OK) << status.message;
    ASSERT_EQ(root()->gang->set_nodes(core, &all, &status), THOLE_OK) << status.message;
  }
  void make_key() {
    thole_status status = sized<thole_status>();
    ASSERT_EQ(root()->core->key_new(core, str(key_file), &status), THOLE_OK) << status.message;
  }
};

// One tensor of four numbers, saved by the only rank.
struct one_tensor {
  float numbers[4] = {1, 2, 3, 4};
  uint64_t shape[1] = {4};
  thole_item item = sized<thole_item>();
  one_tensor() {
    item.name = THOLE_STR("weights");
    item.kind = THOLE_ITEM_TENSOR;
    item.dims = 1;
    item.dtype = THOLE_STR("float32");
    item.shape = shape;
    item.data = {numbers, sizeof numbers};
  }
};

}  // namespace host
