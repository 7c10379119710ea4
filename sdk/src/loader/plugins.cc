#include "loader/plugins.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "loader/elf.h"
#include "loader/manifest.h"
#include "loader/open.h"
#include "loader/plugin.h"

namespace thole::loader {
namespace {

constexpr std::size_t most_library_bytes = std::size_t{256} << 20;
constexpr std::size_t most_plugins = 1024;

}  // namespace

plugins::plugins(const log_sink &log) : log_(log), lines_(std::make_shared<log_lines>()) {}

plugins::~plugins() {
  // Who wants to know how it went has called stop.
  (void)stop(std::chrono::seconds(2));
}

// The steps, cheapest first; none of them runs or maps a byte of the library before map_library.
result<std::shared_ptr<plugin>> plugins::load_one(const trusted_folder &folder, const std::string &name,
                                                  plugin_info &info) {
  THOLE_LET(const trusted_file text, read_trusted_file(folder, name, most_manifest_bytes, reason::PluginManifestBad));
  THOLE_LET(const manifest m, read_manifest(text.bytes, info.manifest));
  info.id = m.id;
  info.provides = m.provides;
  info.version = m.version;
  THOLE_TRY(check_manifest(m));
  if (find(m.id) != nullptr)
    return fail(reason::PluginExists, "a plugin {} is loaded already: remove one of the two manifests", m.id);

  const std::string path = folder.path + "/" + m.library;
  THOLE_LET(const trusted_file library,
            read_trusted_file(folder, m.library, most_library_bytes, reason::PluginLibraryMissing));
  THOLE_LET(const std::string digest, digest_text(library.bytes));
  if (digest != m.sha256)
    return fail(reason::PluginDigestWrong, "{} has the SHA-256 {}, its manifest says {}: install both again", path,
                digest, m.sha256);
  THOLE_LET(const elf_facts facts, read_elf(bytes_of(library.bytes)));
  THOLE_TRY(check_elf(facts, path));
  THOLE_LET(const thole_plugin_entry_v1_fn entry, map_library(library, digest, m.library));
  THOLE_LET(std::shared_ptr<plugin> started, plugin::start(entry, m, log_, lines_));
  lines_->add(THOLE_LOG_INFO, "loader", fmt::format("loaded {} {} from {}, SHA-256 {}", m.id, m.version, path, digest));
  return started;
}

result<> plugins::load(const std::string &path) {
  result<> done = load_all(path);
  lines_->tell(log_);
  return done;
}

result<> plugins::load_all(const std::string &path) {
  const std::lock_guard one_at_a_time(loading_);
  if (stopped_) return fail(reason::PluginGone, "the core's plugins are stopped: open a new core");
  THOLE_LET(const trusted_folder folder, open_trusted_folder(path));
  THOLE_LET(const std::vector<std::string> names, manifest_names(folder));
  for (const std::string &name : names) {
    plugin_info info;
    info.manifest = folder.path + "/" + name;
    const auto known = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const entry &e) { return e.info.manifest == info.manifest; });
    if (known != entries_.end() && known->running) continue;
    if (known == entries_.end() && entries_.size() == most_plugins)
      return fail(reason::OverBound, "more than {} manifests", most_plugins);
    auto loaded = load_one(folder, name, info);
    if (!loaded) {
      const error &why = loaded.error();
      info.reason = name_of(why.why);
      info.message = why.text();
      lines_->add(THOLE_LOG_WARN, "loader",
                  fmt::format("refused {}: {}: {}", info.manifest, info.reason, info.message));
    }
    record(std::move(info), loaded ? std::move(*loaded) : nullptr);
  }
  return {};
}

// Only load changes the list, so it may read without the lock what it alone writes.
void plugins::record(plugin_info info, std::shared_ptr<plugin> running) {
  const std::lock_guard lock(entries_mutex_);
  std::erase_if(entries_, [&](const entry &e) { return e.info.manifest == info.manifest; });
  entries_.push_back({std::move(info), std::move(running)});
}

std::shared_ptr<plugin> plugins::find(std::string_view id) const {
  const std::lock_guard lock(entries_mutex_);
  for (const entry &e : entries_)
    if (e.running && e.info.id == id) return e.running;
  return nullptr;
}

std::vector<plugin_info> plugins::list() const {
  std::vector<plugin_info> out;
  {
    const std::lock_guard lock(entries_mutex_);
    for (const entry &e : entries_) out.push_back(e.info);
  }
  std::sort(out.begin(), out.end(), [](const plugin_info &a, const plugin_info &b) {
    return std::tie(a.id, a.manifest) < std::tie(b.id, b.manifest);
  });
  return out;
}

result<std::vector<gpu>> plugins::gpus(std::string_view id, std::string_view options) {
  const std::shared_ptr<plugin> p = find(id);
  if (p) {
    auto answer = p->gpus(options);
    lines_->tell(log_);
    return answer;
  }
  for (const plugin_info &info : list())
    if (info.id == id) return fail(reason::PluginNotLoaded, "{} was refused: {}: {}", id, info.reason, info.message);
  return fail(reason::PluginNotLoaded, "no plugin {} is loaded: `thole plugin ls` lists them", id);
}

result<> plugins::stop(std::chrono::nanoseconds each) {
  result<> first;
  std::unique_lock one_at_a_time(loading_);
  stopped_ = true;
  for (auto e = entries_.rbegin(); e != entries_.rend(); ++e) {
    if (!e->running) continue;
    result<> done = e->running->stop(each);
    if (!done) lines_->add(THOLE_LOG_WARN, "loader", std::string(done.error().text()));
    if (!done && first) first = done;
  }
  one_at_a_time.unlock();
  lines_->tell(log_);
  return first;
}

}  // namespace thole::loader
