// loader/plugins.h: the plugins of one core: found, checked, loaded, asked, stopped.
//
// Cores of one process share the code of a plugin with the same bytes; each starts it for itself. No lock is held while
// the host's log is called, and none but the plugin's own while a plugin is asked.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "loader/answer.h"
#include "loader/log_lines.h"
#include "loader/trust.h"

namespace thole::loader {

class plugin;

// What thole_plugin_info says. `reason` and `message` are empty for a plugin that is loaded.
struct plugin_info {
  std::string id, provides, version, manifest, reason, message;
};

class plugins {
 public:
  explicit plugins(const log_sink &log);
  ~plugins();  // stops what still runs

  // Loads what the folder's manifests name. One that is refused is in list() with its reason, and tried again at the
  // next load; the others are loaded. Fails: PluginFolderMissing, PluginFolderNotPrivate, PluginGone (after stop).
  result<> load(const std::string &folder);

  // What load has seen, by id, then by manifest.
  std::vector<plugin_info> list() const;

  // Fails: PluginNotLoaded, and what plugin::gpus fails with.
  result<std::vector<gpu>> gpus(std::string_view id, std::string_view options);

  // Stops all, the last loaded first, each within `each`. All are stopped even if one fails; the first failure is told.
  result<> stop(std::chrono::nanoseconds each);

 private:
  struct entry {
    plugin_info info;
    std::shared_ptr<plugin> running;  // null: refused
  };

  result<std::shared_ptr<plugin>> load_one(const trusted_folder &folder, const std::string &name, plugin_info &info);
  void record(plugin_info info, std::shared_ptr<plugin> running);
  std::shared_ptr<plugin> find(std::string_view id) const;

  result<> load_all(const std::string &path);

  log_sink log_;
  std::shared_ptr<log_lines> lines_;
  std::mutex loading_;                // one load or stop at a time; held while plugins start
  mutable std::mutex entries_mutex_;  // the list itself; never held while foreign code runs
  std::vector<entry> entries_;        // in the order of loading
  bool stopped_ = false;
};

}  // namespace thole::loader
