#include "loader/plugin.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "base/text.h"

namespace thole::loader {

namespace {

// Calls foreign code, which must not throw, and may.
template <class F>
auto call(const std::string &id, std::string_view slot, F &&f) -> result<decltype(f())> {
  auto threw = [&](std::string_view what) {
    auto failed =
        fail(reason::PluginThrew, "{} let an exception out of {}: {}; report it to its author", id, slot, what);
    failed.value().flags |= THOLE_STATUS_PLUGIN;
    return failed;
  };
  try {
    if constexpr (std::is_void_v<decltype(f())>) {
      f();
      return {};
    } else {
      return f();
    }
  } catch (const std::exception &e) {
    return threw(e.what());
  } catch (...) {
    return threw("of an unknown type");
  }
}

// The fields that a foreign sized struct has, and zero for the rest. `least` is its size in the first version.
template <class T>
bool copy_table(const T *from, uint64_t least, T &to) noexcept {
  if (from->struct_size < least || from->struct_size > 65536) return false;
  to = {};
  std::memcpy(static_cast<void *>(&to), from, std::min<uint64_t>(from->struct_size, sizeof(T)));
  return true;
}

std::string_view bounded(const thole_str &s) noexcept {
  constexpr uint64_t most = 256;
  return s.data == nullptr ? std::string_view{} : std::string_view(s.data, std::min(s.len, most));
}

constexpr uint64_t first_room = 16 << 10;
constexpr uint64_t most_room = 16 << 20;

}  // namespace

plugin::plugin(std::string id, const log_sink &host, std::shared_ptr<log_lines> lines)
    : id_(std::move(id)), lines_(std::move(lines)) {
  const thole_host_log *wanted = host.host();
  if (wanted != nullptr) log_ = {sizeof log_, this, wanted->level, 0, log};
  host_ = {sizeof host_, wanted == nullptr ? nullptr : &log_};
}

void plugin::log(void *self, thole_log_level level, thole_str, thole_str message) {
  constexpr uint64_t most = 4096;
  auto &p = *static_cast<plugin *>(self);
  std::string_view words(message.data, message.data == nullptr ? 0 : std::min(message.len, most));
  if (!is_utf8(words)) words = "(words that are not UTF-8)";
  p.lines_->add(std::clamp<thole_log_level>(level, THOLE_LOG_DEBUG, THOLE_LOG_ERROR), "plugin",
                p.id_ + ": " + std::string(words));
}

result<std::shared_ptr<plugin>> plugin::start(thole_plugin_entry_v1_fn entry, const manifest &m, const log_sink &host,
                                              std::shared_ptr<log_lines> lines) {
  std::shared_ptr<plugin> p(new plugin(m.id, host, std::move(lines)));
  THOLE_TRY(p->adopt(entry, m));
  THOLE_TRY(p->begin());
  return p;
}

result<> plugin::adopt(thole_plugin_entry_v1_fn entry, const manifest &m) {
  thole_status status{};
  status.struct_size = sizeof status;
  THOLE_LET(const thole_plugin *given,
            call(id_, THOLE_PLUGIN_ENTRY_SYMBOL, [&] { return entry(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, &status); }));
  if (given == nullptr) {
    status.message[sizeof status.message - 1] = '\0';
    const std::string_view words = is_utf8(status.message) ? status.message : "";
    return fail(reason::PluginRefusedItself, "{} refuses to work with this core: {}", id_,
                words.empty() ? "it gives no reason" : words);
  }
  if (!copy_table(given, THOLE_END(thole_plugin, device), table_))
    return fail(reason::PluginBadAnswer, "the table of {} has struct_size {}", id_, given->struct_size);
  if (table_.abi_major != m.abi_major || table_.abi_minor != m.abi_minor)
    return fail(reason::PluginBadAnswer, "{} was built with the contract {}.{}, its manifest says {}.{}", id_,
                table_.abi_major, table_.abi_minor, m.abi_major, m.abi_minor);
  if (bounded(table_.id) != m.id)
    return fail(reason::PluginBadAnswer, "the manifest of {} names a library that has another id", id_);
  if (m.provides == "device" &&
      (table_.device == nullptr || !copy_table(table_.device, THOLE_END(thole_device_plugin, list), device_table_) ||
       device_table_.list == nullptr))
    return fail(reason::PluginBadAnswer, "{} provides \"device\" by its manifest, and its table has none", id_);
  return {};
}

result<> plugin::begin() {
  if (table_.start == nullptr) return {};
  thole_status status{};
  status.struct_size = sizeof status;
  THOLE_LET(const thole_code code, call(id_, "start", [&] { return table_.start(&host_, &self_, &status); }));
  if (code != THOLE_OK) return tl::unexpected(plugin_error(code, status, id_));
  return {};
}

result<> plugin::refuse() const {
  switch (state_.load()) {
    case state::running:
      return {};
    case state::stopped:
      return fail(reason::PluginGone, "{} is stopped: open a new core", id_);
    default:
      return fail(reason::PluginStopTimeout, "{} did not stop in time and is left alone: open a new core", id_);
  }
}

result<std::vector<gpu>> plugin::gpus(std::string_view options) {
  THOLE_TRY(refuse());
  const std::lock_guard one_at_a_time(calls_);
  THOLE_TRY(refuse());
  if (device_table_.list == nullptr) return fail(reason::PluginNotLoaded, "{} is loaded, and is no device plugin", id_);
  for (uint64_t size = first_room;;) {
    std::vector<uint64_t> memory(size / 8);
    thole_buffer room{memory.data(), size, 0};
    thole_gpu_list list{sizeof(thole_gpu_list), {}};
    thole_status status{};
    status.struct_size = sizeof status;
    THOLE_LET(const thole_code code, call(id_, "device.list", [&] {
                return device_table_.list(self_, borrow(options), &list, &room, &status);
              }));
    // The plugin may have moved what it was lent; what it was lent is known here.
    const thole_buffer lent{memory.data(), size, 0};
    if (code == THOLE_OK) return read_gpus(list, lent, id_);
    if (code != THOLE_TOO_SMALL) return tl::unexpected(plugin_error(code, status, id_));
    if (room.used <= size || room.used > most_room) {
      auto failed = fail(reason::PluginBadAnswer, "{} wants {} bytes after it was lent {}", id_, room.used, size);
      failed.value().flags |= THOLE_STATUS_PLUGIN;
      return failed;
    }
    size = (room.used + 7) & ~uint64_t{7};
  }
}

result<> plugin::stop(std::chrono::nanoseconds within) {
  if (state_.load() != state::running) return {};
  const auto until = std::chrono::steady_clock::now() + within;
  std::unique_lock one_at_a_time(calls_, std::defer_lock);
  if (!one_at_a_time.try_lock_until(until)) {
    state_ = state::left_alone;
    return fail(reason::PluginStopTimeout, "{} is still in a call after {} ms and is left alone", id_,
                std::chrono::duration_cast<std::chrono::milliseconds>(within).count());
  }
  state_ = state::stopped;
  result<> done = table_.stop == nullptr ? result<>{} : call_stop(until - std::chrono::steady_clock::now());
  if (!done && done.error().why == reason::PluginStopTimeout) state_ = state::left_alone;
  return done;
}

// The thread keeps the plugin, and with it all that foreign code may still touch, for as long as it takes.
result<> plugin::call_stop(std::chrono::nanoseconds within) {
  struct watch {
    std::mutex mutex;
    std::condition_variable changed;
    bool ended = false;
    result<> outcome;
  };
  auto seen = std::make_shared<watch>();
  auto run = [self = shared_from_this(), seen] {
    result<> outcome = call(self->id_, "stop", [&] { self->table_.stop(self->self_); });
    const std::lock_guard lock(seen->mutex);
    seen->outcome = outcome;
    seen->ended = true;
    seen->changed.notify_all();
  };
  // The host's signals are for the host's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread(run);
  } catch (const std::system_error &e) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return fail_errno(reason::PluginStopTimeout, e.code().value(), "no thread to stop {} on; it is left alone", id_);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  std::unique_lock lock(seen->mutex);
  const bool ended = seen->changed.wait_for(lock, within, [&] { return seen->ended; });
  const result<> outcome = seen->outcome;
  lock.unlock();
  if (ended) {
    thread.join();
    return outcome;
  }
  thread.detach();
  return fail(reason::PluginStopTimeout, "{} did not stop within {} ms and is left alone; report it to its author", id_,
              std::chrono::duration_cast<std::chrono::milliseconds>(within).count());
}

}  // namespace thole::loader
