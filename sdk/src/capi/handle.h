// capi/handle.h: 64-bit handles with a generation, so that a closed, foreign or mistyped one is told and not followed.
//
// A slot is found without a lock, and in a forked child without touching what its parent's threads may have left
// behind. pin() and the pin's end are one atomic addition each; close() waits until the pins of other threads have
// ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/status.h"
#include "capi/fork.h"

namespace thole {

template <class T, uint8_t Kind, uint32_t Slots>
class handle_table {
  // word: generation (32 bits) | pins (31 bits) | closing (1 bit)
  static constexpr uint64_t closing = 1;
  static constexpr uint64_t one_pin = 2;
  static constexpr uint64_t one_generation = uint64_t{1} << 32;
  struct slot {
    std::atomic<uint64_t> word{one_generation};
    std::atomic<uint32_t> taken{0};    // fork generation of its owner; 0: free
    std::atomic<uint32_t> process{0};  // fork generation in which its object was opened
    T *object = nullptr;
  };

 public:
  class pin {
   public:
    pin() = default;
    pin(slot *s) noexcept : slot_(s) {}
    pin(pin &&other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
    pin &operator=(pin &&) = delete;
    ~pin() {
      if (slot_ == nullptr) return;
      if (slot_->word.fetch_sub(one_pin, std::memory_order_release) & closing) slot_->word.notify_all();
    }
    T *operator->() const noexcept { return slot_->object; }
    T &operator*() const noexcept { return *slot_->object; }

   private:
    friend class handle_table;
    slot *slot_ = nullptr;
  };

  // The caller has armed the fork witness.
  result<uint64_t> open(std::unique_ptr<T> object) noexcept {
    for (uint32_t i = 0; i < Slots; ++i) {
      slot &s = slots_[i];
      // `taken` holds the process that took the slot, so that a child finds its parent's slots free in one step: their
      // objects are copies that nobody there can reach.
      uint32_t owner = s.taken.load(std::memory_order_relaxed);
      if (owner == fork::generation()) continue;
      if (!s.taken.compare_exchange_strong(owner, fork::generation(), std::memory_order_acquire)) continue;
      if (owner != 0) s.word.store((s.word.load() / one_generation + 1) * one_generation);
      s.object = object.release();
      const uint64_t generation = s.word.load(std::memory_order_relaxed) / one_generation;
      s.process.store(fork::generation(), std::memory_order_release);
      return generation << 32 | uint64_t{Kind} << 24 | i;
    }
    return fail(reason::HandlesOut, "{} handles of this kind are open: end or close some", Slots);
  }

  [[gnu::always_inline]] pin enter(uint64_t v, reason *why) noexcept {
    if (fork::unarmed()) [[unlikely]] {
      *why = fork::here.alive == nullptr ? reason::HandleStale : reason::Forked;
      return {};
    }
    const auto i = static_cast<uint32_t>(v & 0xFFFFFF);
    if (i >= Slots || (v >> 24 & 0xFF) != Kind || v >> 32 == 0) [[unlikely]] {
      *why = reason::HandleStale;
      return {};
    }
    slot &s = slots_[i];
    if (s.process.load(std::memory_order_acquire) != fork::generation()) [[unlikely]] {
      *why = s.process.load() == 0 || s.word.load() / one_generation != v >> 32 ? reason::HandleStale : reason::Forked;
      return {};
    }
    const uint64_t word = s.word.fetch_add(one_pin, std::memory_order_acquire);
    pin p(&s);
    if (word >> 32 != v >> 32 || (word & closing) != 0) [[unlikely]] {
      *why = reason::HandleStale;
      return {};
    }
    return p;
  }

  // After this no new pin is given out, and other threads' pins have ended.
  result<std::unique_ptr<T>> close(uint64_t v) noexcept {
    reason why{};
    pin p = enter(v, &why);
    if (p.slot_ == nullptr) return fail(why, "the handle {:#x} is not open here", v);
    slot &s = *std::exchange(p.slot_, nullptr);
    const uint64_t before = s.word.fetch_or(closing, std::memory_order_acq_rel);
    if (before & closing) {
      if (s.word.fetch_sub(one_pin, std::memory_order_release) & closing) s.word.notify_all();
      return fail(reason::HandleStale, "the handle {:#x} is being closed by another thread", v);
    }
    for (uint64_t word = s.word.load(std::memory_order_acquire); (word & 0xFFFFFFFF) != (one_pin | closing);
         word = s.word.load(std::memory_order_acquire))
      s.word.wait(word, std::memory_order_acquire);
    std::unique_ptr<T> object(s.object);
    s.object = nullptr;
    // A pin that comes and goes on a stale handle meanwhile adds and takes away as much.
    s.word.fetch_add(one_generation - one_pin - closing, std::memory_order_acq_rel);
    s.process.store(0, std::memory_order_relaxed);  // nobody enters before the next open has set its object
    s.taken.store(0, std::memory_order_release);
    return object;
  }

  // Closes every object of this process for which `belongs(T &)` holds.
  template <class F>
  void close_where(F &&belongs) noexcept {
    for (uint32_t i = 0; i < Slots; ++i) {
      slot &s = slots_[i];
      if (s.taken.load(std::memory_order_acquire) != fork::generation()) continue;
      const uint64_t v = s.word.load(std::memory_order_relaxed) / one_generation << 32 | uint64_t{Kind} << 24 | i;
      bool found = false;
      {
        reason why{};
        const pin p = enter(v, &why);
        found = p.slot_ != nullptr && p.slot_->object != nullptr && belongs(*p);
      }
      if (found) static_cast<void>(close(v));
    }
  }

  static bool entered(const pin &p) noexcept { return p.slot_ != nullptr; }

 private:
  slot slots_[Slots];
};

}  // namespace thole
