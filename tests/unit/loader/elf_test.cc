// Libraries as linkers make them, and what becomes of the answer when their bytes are cut and changed. The judge of the
// rule about exports is the dynamic linker itself.
#include "loader/elf.h"

#include <dlfcn.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <map>

#include "fixture.h"

namespace thole::loader {
namespace {

std::string verdict(std::string_view bytes) {
  const auto facts = read_elf(raw(bytes));
  return facts ? answer(check_elf(*facts, "x.so")) : answer(facts);
}

TEST(Elf, AnswersOnWhatLinkersMake) {
  const std::map<std::string, std::string> expected{{"right", "good"},
                                                    {"missing", "PluginSymbolMissing"},
                                                    {"extra", "PluginSymbolExtra"},
                                                    {"unique", "PluginSymbolExtra"},
                                                    {"static_tls", "PluginStaticTls"},
                                                    {"unwinder", "PluginOwnUnwinder"},
                                                    {"unwinder_stripped", "PluginOwnUnwinder"},
                                                    {"executable_stack", "PluginExecutableStack"},
                                                    {"search_path", "PluginSearchPath"}};
  for (const auto &[name, reason] : expected) EXPECT_EQ(verdict(specimen(name)), reason) << name;
  std::printf("%zu of %zu specimens\n", expected.size(), expected.size());
}

TEST(Elf, SaysWhatItSees) {
  const auto facts = read_elf(raw(specimen("right")));
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->exports, 1u);
  EXPECT_TRUE(facts->exports_entry && facts->other_exports.empty());
  const auto extra = read_elf(raw(specimen("extra")));
  ASSERT_TRUE(extra);
  EXPECT_GT(extra->exports, 1u);
}

TEST(Elf, RefusesWhatIsNoLibrary) {
  EXPECT_EQ(verdict(""), "PluginNotElf");
  EXPECT_EQ(verdict("\x7f"
                    "ELF"),
            "PluginNotElf");
  EXPECT_EQ(verdict(std::string(1 << 16, '\0')), "PluginNotElf");
  std::ifstream self("/proc/self/exe", std::ios::binary);
  EXPECT_EQ(verdict(std::string{std::istreambuf_iterator<char>(self), {}}), "PluginNotElf") << "a program";
  for (const auto &[place, value] :
       std::map<std::size_t, char>{{EI_CLASS, ELFCLASS32}, {EI_DATA, ELFDATA2MSB}, {18, EM_S390}}) {
    std::string other = specimen("right");
    other[place] = value;
    EXPECT_EQ(verdict(other), "PluginOtherMachine") << place;
  }
  std::string object = specimen("right");
  object[16] = ET_REL;
  EXPECT_EQ(verdict(object), "PluginNotElf");
}

// In memory of exactly their size, so that the sanitizer sees a byte read beyond.
std::string verdict_of_copy(std::string_view bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  return verdict({exact.data(), exact.size()});
}

TEST(Elf, RefusesEveryCut) {
  std::size_t cuts = 0, refused = 0;
  for (const char *name : {"right", "unwinder_stripped"}) {
    const std::string whole = specimen(name);
    // Every length where the tables lie, a good many behind them.
    for (std::size_t size = 0; size < whole.size(); size += size < 8192 ? 1 : 61) {
      ++cuts;
      refused += verdict_of_copy(std::string_view(whole).substr(0, size)) != "good";
    }
  }
  std::printf("%zu of %zu cut libraries are refused\n", refused, cuts);
  EXPECT_EQ(refused, cuts);
}

// Pseudo-random, the same in every run.
struct dice {
  uint64_t state;
  uint64_t roll(uint64_t below) {
    state += 0x9E3779B97F4A7C15u;
    uint64_t z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % below;
  }
};

template <class T>
T get(const std::string &bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}
template <class T>
void put(std::string &bytes, std::size_t at, const T &value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// Where the dynamic section lies in the file.
std::pair<std::size_t, std::size_t> dynamic_of(const std::string &bytes) {
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr p;
    std::memcpy(&p, bytes.data() + header.e_phoff + i * sizeof p, sizeof p);
    if (p.p_type == PT_DYNAMIC) return {p.p_offset, p.p_filesz};
  }
  return {0, 64};
}

// The value of a tag of the dynamic section; for tables in the first segment that is their offset in the file, too.
uint64_t dynamic_value(const std::string &bytes, int64_t tag) {
  const auto [from, size] = dynamic_of(bytes);
  for (std::size_t at = from; at < from + size; at += sizeof(Elf64_Dyn))
    if (get<Elf64_Dyn>(bytes, at).d_tag == tag) return get<Elf64_Dyn>(bytes, at).d_un.d_val;
  ADD_FAILURE() << "no tag " << tag;
  return 0;
}

// Changes one to three places: most of them in the headers, hash tables, symbols and names with which a library begins,
// a fifth in the dynamic section, a fifth anywhere.
std::string mutated(const std::string &whole, dice &d) {
  static constexpr uint64_t edges[] = {0,    1, 2, 7, 0x7F, 0xFF, 0x1000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF,
                                       ~0ull};
  std::string out = whole;
  const auto [dynamic, dynamic_size] = dynamic_of(whole);
  const std::size_t tables = dynamic_value(whole, DT_GNU_HASH);
  const std::size_t tables_size = dynamic_value(whole, DT_STRTAB) + dynamic_value(whole, DT_STRSZ) - tables;
  for (uint64_t places = 1 + d.roll(3); places > 0; --places) {
    const uint64_t where = d.roll(5);
    const std::size_t at = where == 0   ? d.roll(std::min<std::size_t>(4096, out.size()))
                           : where < 3  ? tables + d.roll(tables_size)
                           : where == 3 ? dynamic + d.roll(dynamic_size)
                                        : d.roll(out.size());
    const uint64_t value = d.roll(2) == 0 ? edges[d.roll(std::size(edges))] : d.roll(whole.size());
    const std::size_t width = std::min<std::size_t>(std::size_t{1} << d.roll(4), out.size() - at);
    if (d.roll(3) == 0) out[at] = static_cast<char>(out[at] ^ 1 << d.roll(8));
    else std::memcpy(out.data() + at, &value, width);
  }
  return out;
}

// The row of a name in the symbol table.
std::size_t row_of(const std::string &bytes, const char *name) {
  const uint64_t strings = dynamic_value(bytes, DT_STRTAB);
  for (std::size_t at = dynamic_value(bytes, DT_SYMTAB); at < strings; at += sizeof(Elf64_Sym))
    if (std::strcmp(bytes.data() + strings + get<Elf64_Sym>(bytes, at).st_name, name) == 0) return at;
  ADD_FAILURE() << "no symbol " << name;
  return 0;
}

// The specimen `extra` with no other extra symbol than its own: what the compiler has added without optimizing is
// hidden.
std::string one_too_many() {
  std::string bytes = specimen("extra");
  const uint64_t strings = dynamic_value(bytes, DT_STRTAB);
  const std::size_t entry = row_of(bytes, "thole_plugin_entry_v1"), extra = row_of(bytes, "specimen_extra");
  for (std::size_t at = dynamic_value(bytes, DT_SYMTAB) + sizeof(Elf64_Sym); at < strings; at += sizeof(Elf64_Sym)) {
    auto symbol = get<Elf64_Sym>(bytes, at);
    if (symbol.st_shndx == SHN_UNDEF || at == entry || at == extra) continue;
    symbol.st_other = STV_HIDDEN;
    put(bytes, at, symbol);
  }
  return bytes;
}

// Whether the dynamic linker would hand out the symbol. In a child: what was changed may well crash.
bool linker_finds(std::string_view bytes, const char *symbol) {
  const int fd = ::memfd_create("variant", MFD_CLOEXEC);
  EXPECT_EQ(::write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  const pid_t child = ::fork();
  if (child == 0) {
    for (int s : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP}) ::signal(s, SIG_DFL);
    ::alarm(5);
    void *library = ::dlopen(("/proc/self/fd/" + std::to_string(fd)).c_str(), RTLD_LAZY | RTLD_LOCAL);
    ::_exit(library != nullptr && ::dlsym(library, symbol) != nullptr ? 7 : 0);
  }
  ::close(fd);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

TEST(Elf, HoldsTheRuleOfOneSymbolOnChangedBytes) {
  const bool is_long = std::getenv("THOLE_TEST_HUGE") != nullptr;
  const std::size_t many = is_long ? 500'000 : 20'000, few = is_long ? 50'000 : 4'000;
  std::map<std::string, std::size_t> seen;
  std::size_t variants = 0, judged = 0, wrong = 0;
  const std::string extra = one_too_many();
  const std::size_t row = row_of(extra, "specimen_extra");
  ASSERT_EQ(verdict(extra), "PluginSymbolExtra");
  ASSERT_TRUE(linker_finds(extra, "specimen_extra")) << "the judge is blind";
  for (const bool is_extra : {false, true}) {
    const std::string whole = is_extra ? extra : specimen("right");
    dice d{is_extra ? 1u : 2u};
    for (std::size_t i = 0; i < (is_extra ? few : many); ++i, ++variants) {
      std::string variant = mutated(whole, d);
      // Else hardly a variant would be taken for one without the symbol.
      if (is_extra && d.roll(2) == 0) variant[row + d.roll(8)] = static_cast<char>(d.roll(256));
      const std::string said = verdict_of_copy(variant);
      ++seen[said];
      if (said != "good" || !is_extra) continue;
      ++judged;
      if (!linker_finds(variant, "specimen_extra")) continue;
      ++wrong;
      for (std::size_t at = 0; at < whole.size(); ++at)
        if (variant[at] != whole[at])
          std::printf("  found all the same: byte %#zx was %#x, is %#x\n", at, whole[at] & 0xFF, variant[at] & 0xFF);
    }
  }
  for (const auto &[said, times] : seen) std::printf("  %s %zu\n", said.c_str(), times);
  std::printf("%zu variants; %zu of %zu that had an extra symbol and were accepted have lost it\n", variants,
              judged - wrong, judged);
  EXPECT_GE(variants, 24'000u);
  EXPECT_GE(judged, 50u) << "too few were judged";
  EXPECT_EQ(wrong, 0u);
  EXPECT_GE(seen.size(), 5u);
}

// glibc's dlsym finds what is undefined and has a value: so it counts.
TEST(Elf, CountsWhatIsUndefinedAndHasAValue) {
  std::string bytes = one_too_many();
  const std::size_t row = row_of(bytes, "specimen_extra");
  auto symbol = get<Elf64_Sym>(bytes, row);
  symbol.st_shndx = SHN_UNDEF;
  put(bytes, row, symbol);
  EXPECT_TRUE(linker_finds(bytes, "specimen_extra"));
  EXPECT_EQ(verdict(bytes), "PluginSymbolExtra");
}

// --- What nobody's linker writes, made by hand. ----------------------------------------------------------------------

// Headers of the kind, in the order of the file.
std::vector<std::size_t> headers_of(const std::string &bytes, uint32_t type) {
  const auto header = get<Elf64_Ehdr>(bytes, 0);
  std::vector<std::size_t> out;
  for (unsigned i = 0; i < header.e_phnum; ++i)
    if (get<Elf64_Phdr>(bytes, header.e_phoff + i * sizeof(Elf64_Phdr)).p_type == type)
      out.push_back(header.e_phoff + i * sizeof(Elf64_Phdr));
  return out;
}

TEST(Elf, RefusesSegmentsThatShareAPage) {
  std::string bytes = specimen("right");
  const auto loads = headers_of(bytes, PT_LOAD);
  ASSERT_GE(loads.size(), 2u);
  // The second begins where the first ends: by the bytes that is apart, but the linker maps whole pages.
  auto first = get<Elf64_Phdr>(bytes, loads[0]);
  const auto second = get<Elf64_Phdr>(bytes, loads[1]);
  first.p_filesz = first.p_memsz = second.p_vaddr - first.p_vaddr + 16;
  put(bytes, loads[0], first);
  EXPECT_EQ(verdict(bytes), "PluginNotElf");
  first.p_filesz = first.p_memsz = second.p_vaddr - first.p_vaddr;
  put(bytes, loads[0], first);
  EXPECT_EQ(verdict(bytes), "good");
}

TEST(Elf, RefusesAChainThatBeginsBeforeTheTable) {
  std::string bytes = specimen("right");
  const uint64_t table = dynamic_value(bytes, DT_GNU_HASH);
  const auto buckets = get<uint32_t>(bytes, table), first = get<uint32_t>(bytes, table + 4);
  const auto bloom = get<uint32_t>(bytes, table + 8);
  ASSERT_GT(first, 1u);
  for (uint32_t i = 0; i < buckets; ++i) put(bytes, table + 16 + bloom * 8 + i * 4, first - 1);
  EXPECT_EQ(verdict(bytes), "PluginNotElf");
}

TEST(Elf, WantsAnEntryThatCanBeCalled) {
  const std::string whole = specimen("right");
  const std::size_t at = row_of(whole, "thole_plugin_entry_v1");
  const auto entry = get<Elf64_Sym>(whole, at);
  auto with = [&](auto change) {
    std::string bytes = whole;
    Elf64_Sym symbol = entry;
    change(symbol);
    put(bytes, at, symbol);
    return verdict(bytes);
  };
  EXPECT_EQ(with([](Elf64_Sym &) {}), "good");
  EXPECT_EQ(with([](Elf64_Sym &s) { s.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT); }), "PluginSymbolMissing");
  EXPECT_EQ(with([](Elf64_Sym &s) { s.st_value = 0; }), "PluginSymbolMissing");
  EXPECT_EQ(with([](Elf64_Sym &s) { s.st_value = ~0ull; }), "PluginSymbolMissing");
  EXPECT_EQ(with([](Elf64_Sym &s) { s.st_other = STV_HIDDEN; }), "PluginSymbolMissing");
  EXPECT_EQ(with([](Elf64_Sym &s) { s.st_shndx = SHN_UNDEF; }), "PluginSymbolMissing");
  EXPECT_EQ(with([](Elf64_Sym &s) { s.st_shndx = SHN_UNDEF, s.st_value = 0; }), "PluginSymbolMissing");
  EXPECT_EQ(with([](Elf64_Sym &s) { s.st_info = ELF64_ST_INFO(STB_GNU_UNIQUE, STT_FUNC); }), "PluginSymbolExtra");
}

}  // namespace
}  // namespace thole::loader
