// A number that two ledgers share when they know and hold the same, whatever their histories were.
#include "gang/ledger.h"

namespace thole::gang {

using model::device;

namespace {

// Mixes 64-bit words; the order of the words matters, nothing of the machine does.
class mixer {
 public:
  void word(uint64_t v) noexcept {
    state_ = (state_ ^ v) * 0x9E3779B97F4A7C15ull;
    state_ ^= state_ >> 29;
    state_ *= 0xBF58476D1CE4E5B9ull;
    state_ ^= state_ >> 32;
  }
  void number(int64_t v) noexcept { word(static_cast<uint64_t>(v)); }
  void text(std::string_view s) noexcept {
    word(s.size());
    uint64_t packed = 0;
    for (std::size_t i = 0; i < s.size(); ++i) {
      packed = packed << 8 | static_cast<unsigned char>(s[i]);
      if (i % 8 == 7) word(packed), packed = 0;
    }
    if (s.size() % 8 != 0) word(packed);
  }
  uint64_t value() const noexcept { return state_; }

 private:
  uint64_t state_ = 0x74686F6C65ull;
};

void mix(mixer &to, const device &d) {
  to.text(d.uuid);
  to.text(d.model);
  to.word(d.memory_mib);
  to.word(d.context_mib);
  to.word(d.flags);
  to.word(d.max_vgpus);
  to.word(d.mig.size());
  for (const model::mig_profile &p : d.mig) {
    to.text(p.name);
    to.word(p.memory_mib);
    to.word(p.count);
    to.word(p.share_milli);
    to.word(p.placements.size());
    for (const model::mig_placement &at : p.placements) to.word(uint64_t{at.start} << 32 | at.size);
  }
}

void mix(mixer &to, const known_node &k) {
  to.text(k.spec.name);
  for (const std::string &d : k.spec.domains) to.text(d);
  to.word(k.spec.cpu_milli);
  to.word(k.spec.memory_mib);
  to.word(k.spec.flags | (k.leaving ? uint64_t{1} << 32 : 0));
  for (const std::string &l : k.spec.labels) to.text(l);
  for (const auto *list : {&k.spec.devices, &k.kept}) {
    to.word(list->size());
    for (const device &d : *list) mix(to, d);
  }
}

void mix(mixer &to, const holding &h, const names &words) {
  to.number(static_cast<int64_t>(h.state));
  to.number(h.expires_ns);
  to.word(h.ranks);
  to.word(h.members.size());
  for (const held_member &m : h.members) {
    to.word(uint64_t{m.role} << 32 | m.member);
    to.word(uint64_t{m.first_rank} << 32 | m.ranks);
    to.word(uint64_t{m.node} << 32 | m.grants);
    to.number(m.cpu_milli);
    to.number(m.memory_mib);
    for (const model::grant &g : h.of(m)) {
      to.word(uint64_t{g.device} << 32 | static_cast<uint32_t>(g.kind));
      to.word(uint64_t{g.mig.start} << 32 | g.mig.size);
      to.word(g.share_milli);
      to.number(g.memory_mib);
      to.number(g.charged_mib);
      to.text(words.text(g.profile));
    }
  }
}

}  // namespace

uint64_t ledger::digest(int64_t now_ns) const {
  mixer to;
  to.word(levels_.size());
  for (const std::string &level : levels_) to.text(level);
  to.word(known_.size());
  for (const known_node &k : known_) mix(to, k);
  for (const auto &[id, h] : gangs_) {
    if (h.expired(now_ns)) continue;
    to.word(id.hi);
    to.word(id.lo);
    mix(to, h, names_);
  }
  return to.value();
}

}  // namespace thole::gang
