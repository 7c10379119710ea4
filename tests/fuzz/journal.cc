// The journal's reader: a file that holds the input, and one whose first records are good and whose end is the input.
// Whatever it reads it reads again in the same way, and what it can go on from takes another record.
#include "base/journal.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

namespace {

using thole::journal;

struct scratch {
  std::string path = (std::filesystem::temp_directory_path() / "thole-fuzz-XXXXXX").string();
  scratch() {
    if (mkdtemp(path.data()) == nullptr) std::abort();
  }
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

void must(bool good) {
  if (!good) std::abort();
}

const std::string &folder() {
  static const scratch made;
  return made.path;
}

thole::result<std::vector<std::string>> read(journal &j, const journal::hold &held, journal::access how) {
  std::vector<std::string> out;
  THOLE_TRY(j.catch_up(held, how,
                       {[&] { out.clear(); },
                        [&](std::string_view payload) -> thole::result<> {
                          out.emplace_back(payload);
                          return {};
                        }}));
  return out;
}

thole::result<std::vector<std::string>> read_anew(journal::access how, std::string_view more = {}) {
  THOLE_LET(journal j, journal::open(folder(), "j", 1));
  THOLE_LET(const journal::hold held, j.lock(how));
  THOLE_LET(auto out, read(j, held, how));
  if (!more.empty()) {
    THOLE_TRY(j.append(held, more));
    j.pass();
    out.emplace_back(more);
  }
  return out;
}

void put(std::string_view bytes) {
  must(bool(thole::replace_file(folder() + "/j.journal", bytes)));
}

// Two records, as the journal itself writes them; made once.
const std::string &good_bytes() {
  static const std::string bytes = [] {
    must(bool(read_anew(journal::access::write, "first")));
    must(bool(read_anew(journal::access::write, "second")));
    return *thole::read_file(folder() + "/j.journal", 1 << 20);
  }();
  return bytes;
}

void check(std::string_view bytes, std::size_t at_least) {
  put(bytes);
  const auto seen = read_anew(journal::access::read);
  const auto again = read_anew(journal::access::write, "more");
  must(bool(seen) == bool(again));
  if (!seen) return;
  must(seen->size() >= at_least && again->size() == seen->size() + 1);
  must(std::equal(seen->begin(), seen->end(), again->begin()));
  const auto last = read_anew(journal::access::read);
  must(last && *last == *again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char *>(data), size);
  const std::string &good = good_bytes();
  check(bytes, 0);
  check(good + std::string(bytes), 2);
  // Bytes of the good one are written over: where, the input says.
  if (size > 2) {
    std::string changed = good;
    const std::size_t at = (data[0] + 256u * data[1]) % good.size();
    changed.replace(at, std::min(size - 2, good.size() - at), bytes.substr(2, good.size() - at));
    check(changed, 0);
  }
  return 0;
}
