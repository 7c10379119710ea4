// gang/cover.h: the exact question under every mixture: can a demand be split over bins, each of which takes any vector
// out of a downward-closed set? Bins are GPUs that take devices of several roles, or nodes that take members of several
// roles. The search goes bin by bin, offers each only vectors that no other offer exceeds, and remembers what failed,
// so equal rests are not searched twice. It is bounded by what it explores, never by time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

namespace thole::gang {

enum class verdict { yes, no, unknown };  // unknown: the bound was reached first

// What a search may still explore.
class effort {
 public:
  explicit effort(uint64_t most) noexcept : left_(most) {}
  bool spend(uint64_t n = 1) noexcept {
    if (left_ < n) {
      left_ = 0;
      return false;
    }
    left_ -= n;
    return true;
  }
  bool spent() const noexcept { return left_ == 0; }

 private:
  uint64_t left_;
};

using counts = std::vector<uint32_t>;

// most(bin, type): how many of one type alone the bin takes, exactly.
// holds(bin, counts): whether it takes them together.
template <class Most, class Holds>
class cover {
 public:
  cover(uint32_t bins, counts demand, Most most, Holds holds, effort &budget)
      : bins_(bins), demand_(std::move(demand)), most_(std::move(most)), holds_(std::move(holds)), budget_(budget) {}

  // On yes, picks[bin] is what each bin takes.
  verdict run(std::vector<counts> &picks) {
    prepare();
    picks.assign(bins_, counts(demand_.size(), 0));
    std::vector<frame> stack;
    if (is_zero(demand_)) return verdict::yes;
    if (!enter(stack, demand_)) return no_or_unknown();
    while (!stack.empty()) {
      frame &top = stack.back();
      if (top.next == top.offers.size()) {
        if (!unsure_) failed_.insert({static_cast<uint32_t>(stack.size() - 1), top.rest});
        stack.pop_back();
        continue;
      }
      const counts &offer = top.offers[top.next++];
      counts rest = top.rest;
      for (std::size_t t = 0; t < rest.size(); ++t) rest[t] -= std::min(rest[t], offer[t]);
      if (is_zero(rest)) {
        for (std::size_t b = 0; b < stack.size(); ++b) picks[b] = stack[b].offers[stack[b].next - 1];
        return verdict::yes;
      }
      if (!budget_.spend()) return verdict::unknown;
      enter(stack, std::move(rest));
    }
    return no_or_unknown();
  }

 private:
  struct frame {
    counts rest;
    std::vector<counts> offers;
    std::size_t next = 0;
  };

  static bool is_zero(const counts &c) {
    return std::all_of(c.begin(), c.end(), [](uint32_t n) { return n == 0; });
  }
  verdict no_or_unknown() const { return unsure_ || budget_.spent() ? verdict::unknown : verdict::no; }

  // reach_[b][t]: what the bins from b on take of type t at most.
  void prepare() {
    alone_.assign(bins_, counts(demand_.size(), 0));
    reach_.assign(bins_ + 1, std::vector<uint64_t>(demand_.size(), 0));
    for (uint32_t b = bins_; b-- > 0;)
      for (std::size_t t = 0; t < demand_.size(); ++t) {
        alone_[b][t] = demand_[t] == 0 ? 0 : most_(b, static_cast<uint32_t>(t));
        reach_[b][t] = reach_[b + 1][t] + alone_[b][t];
      }
  }

  // Opens the next bin for `rest`, unless it is hopeless or has failed before.
  bool enter(std::vector<frame> &stack, counts rest) {
    const auto bin = static_cast<uint32_t>(stack.size());
    if (bin == bins_) return false;
    for (std::size_t t = 0; t < rest.size(); ++t)
      if (reach_[bin][t] < rest[t]) return false;
    if (failed_.contains({bin, rest})) return false;
    frame f{std::move(rest), {}, 0};
    counts so_far(demand_.size(), 0);
    offer(bin, f, so_far, 0);
    stack.push_back(std::move(f));
    return true;
  }

  // All vectors of the bin up to f.rest that no earlier one exceeds: each type from many to few, the last as many as
  // can be.
  void offer(uint32_t bin, frame &f, counts &so_far, std::size_t type) {
    const uint32_t top = std::min(alone_[bin][type], f.rest[type]);
    const bool last = type + 1 == so_far.size();
    for (uint32_t n = top + 1; n-- > 0;) {
      so_far[type] = n;
      if (!possible(bin, so_far)) continue;
      if (!last) {
        offer(bin, f, so_far, type + 1);
      } else {
        if (!exceeded(f.offers, so_far)) f.offers.push_back(so_far);
        break;
      }
    }
    so_far[type] = 0;
  }

  bool possible(uint32_t bin, const counts &c) {
    if (is_zero(c)) return true;
    if (!budget_.spend()) {
      unsure_ = true;
      return false;
    }
    const verdict v = holds_(bin, c);
    if (v == verdict::unknown) unsure_ = true;
    return v == verdict::yes;
  }

  static bool exceeded(const std::vector<counts> &offers, const counts &c) {
    return std::any_of(offers.begin(), offers.end(), [&](const counts &o) {
      return std::equal(c.begin(), c.end(), o.begin(), [](uint32_t a, uint32_t b) { return a <= b; });
    });
  }

  const uint32_t bins_;
  const counts demand_;
  Most most_;
  Holds holds_;
  effort &budget_;
  bool unsure_ = false;
  std::vector<counts> alone_;
  std::vector<std::vector<uint64_t>> reach_;
  std::set<std::pair<uint32_t, counts>> failed_;
};

}  // namespace thole::gang
