// loader/plugin.h: one plugin that runs: every call into foreign code goes through here.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "loader/answer.h"
#include "loader/call_lock.h"
#include "loader/log_lines.h"
#include "loader/manifest.h"

namespace thole::loader {

class plugin : public std::enable_shared_from_this<plugin> {
 public:
  // Asks a library's entry for its table, checks the table against the manifest, and starts the plugin. What it logs
  // goes to `lines`, if the host logs at all. Fails: PluginRefusedItself, PluginBadAnswer, PluginThrew, and what the
  // plugin says.
  static result<std::shared_ptr<plugin>> start(thole_plugin_entry_v1_fn entry, const manifest &m, const log_sink &host,
                                               std::shared_ptr<log_lines> lines);

  // One call at a time. Fails: PluginGone, PluginStopTimeout (it hung when it was stopped), PluginBadAnswer,
  // PluginThrew, PluginNotLoaded if it is no device plugin, and what the plugin says.
  result<std::vector<gpu>> gpus(std::string_view options);

  // Runs the plugin's stop on a thread of its own and waits until `within` has passed. A plugin that has not returned
  // by then is left alone: its thread, table and code stay, and no call of ours reaches it again. Fails:
  // PluginStopTimeout, PluginThrew.
  result<> stop(std::chrono::nanoseconds within);

 private:
  enum class state { running, stopped, left_alone };

  plugin(std::string id, const log_sink &host, std::shared_ptr<log_lines> lines);
  result<> adopt(thole_plugin_entry_v1_fn entry, const manifest &m);
  result<> begin();
  result<> call_stop(std::chrono::nanoseconds within);
  result<> refuse() const;
  static void log(void *self, thole_log_level level, thole_str component, thole_str message);

  std::string id_;
  std::shared_ptr<log_lines> lines_;
  thole_host_log log_{};  // what the plugin is given
  thole_plugin_host host_{};
  thole_plugin table_{};                // the fields that this core knows
  thole_device_plugin device_table_{};  // the same
  void *self_ = nullptr;
  std::atomic<state> state_{state::running};
  call_lock calls_;
};

}  // namespace thole::loader
