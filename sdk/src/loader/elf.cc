#include "loader/elf.h"

#include <elf.h>
#include <thole/plugin.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/text.h"

#ifndef DF_1_PIE
#define DF_1_PIE 0x08000000
#endif

namespace thole::loader {
namespace {

#if defined(__x86_64__)
constexpr Elf64_Half own_machine = EM_X86_64;
constexpr const char *own_name = "x86_64";
#elif defined(__aarch64__)
constexpr Elf64_Half own_machine = EM_AARCH64;
constexpr const char *own_name = "aarch64";
#else
#error "Thole runs on x86_64 and aarch64"
#endif

constexpr uint64_t most_name = 4096;      // bytes of a symbol's name; keeps the work linear in the file's size
constexpr Elf64_Half most_headers = 256;  // program headers; linkers make about a dozen
constexpr std::size_t most_reported = 4;  // exports that are remembered for the sentence

struct damaged {
  const char *what;
};
template <class T = void>
using parsed = tl::expected<T, damaged>;

tl::unexpected<damaged> bad(const char *what) noexcept {
  return tl::unexpected<damaged>({what});
}

const char *machine_name(unsigned machine) noexcept {
  switch (machine) {
    case EM_X86_64:
      return "x86_64";
    case EM_AARCH64:
      return "aarch64";
    case EM_386:
      return "i386";
    case EM_ARM:
      return "arm";
    case EM_PPC64:
      return "ppc64";
    case EM_RISCV:
      return "riscv";
    case EM_S390:
      return "s390x";
    default:
      return "another";
  }
}

// The dynamic section's entries that matter here.
struct dynamic_entries {
  uint64_t strings = 0, strings_size = 0, symbols = 0, hash = 0, gnu_hash = 0, flags = 0, flags_1 = 0;
  bool has_strings = false, has_symbols = false;
  std::vector<std::pair<int64_t, uint64_t>> texts;  // tag and offset into the strings
};

class image {
 public:
  explicit image(std::span<const unsigned char> bytes) noexcept : bytes_(bytes) {}

  parsed<elf_facts> facts();

 private:
  template <class T>
  std::optional<T> at(uint64_t offset) const noexcept {
    if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }

  // The file offset of `size` bytes that the program sees at `address`, if one loaded segment holds them all.
  std::optional<uint64_t> offset_of(uint64_t address, uint64_t size) const noexcept {
    for (const Elf64_Phdr &segment : segments_) {
      if (address < segment.p_vaddr) continue;
      const uint64_t into = address - segment.p_vaddr;
      if (into <= segment.p_filesz && segment.p_filesz - into >= size) return segment.p_offset + into;
    }
    return std::nullopt;
  }
  template <class T>
  std::optional<T> at_address(uint64_t address) const noexcept {
    const auto offset = offset_of(address, sizeof(T));
    return offset ? at<T>(*offset) : std::nullopt;
  }

  // The terminated text at offset `from` of a table of `size` bytes that starts at file offset `table`.
  std::optional<std::string_view> text(uint64_t table, uint64_t size, uint64_t from) const noexcept {
    if (table > bytes_.size() || size > bytes_.size() - table || from >= size) return std::nullopt;
    const char *begin = reinterpret_cast<const char *>(bytes_.data()) + table + from;
    const std::size_t most = std::min(size - from, most_name);
    const std::size_t length = strnlen(begin, most);
    return length == most ? std::nullopt : std::optional(std::string_view(begin, length));
  }

  parsed<> read_segments(elf_facts &facts);
  parsed<> read_dynamic();
  parsed<uint64_t> gnu_symbols(uint64_t table) const;
  parsed<uint64_t> count_symbols() const;
  parsed<> read_texts(elf_facts &facts) const;
  bool is_code(const Elf64_Sym &symbol) const noexcept;
  parsed<> read_symbols(elf_facts &facts) const;
  parsed<> read_section_symbols(elf_facts &facts) const;

  std::span<const unsigned char> bytes_;
  Elf64_Ehdr header_{};
  std::vector<Elf64_Phdr> segments_;  // PT_LOAD, ascending
  Elf64_Phdr dynamic_segment_{};
  dynamic_entries dynamic_;
};

// The linker maps whole pages, in the order of the headers: where two segments share one, what the program sees there
// is the later one's, and not what is read here.
bool apart(const Elf64_Phdr &before, const Elf64_Phdr &after) noexcept {
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return after.p_vaddr / page > (before.p_vaddr + before.p_memsz - (before.p_memsz > 0)) / page;
}

parsed<> image::read_segments(elf_facts &facts) {
  header_ = *at<Elf64_Ehdr>(0);
  if (header_.e_phentsize != sizeof(Elf64_Phdr) || header_.e_phnum > most_headers) return bad("its program headers");
  bool stack_said = false;
  for (Elf64_Half i = 0; i < header_.e_phnum; ++i) {
    if (header_.e_phoff > bytes_.size()) return bad("its program headers");
    const auto p = at<Elf64_Phdr>(header_.e_phoff + uint64_t{i} * sizeof(Elf64_Phdr));
    if (!p) return bad("its program headers");
    if (p->p_type == PT_LOAD) {
      if (p->p_offset > bytes_.size() || p->p_filesz > bytes_.size() - p->p_offset || p->p_filesz > p->p_memsz ||
          p->p_vaddr + p->p_memsz < p->p_vaddr)
        return bad("a segment");
      if (!segments_.empty() && !apart(segments_.back(), *p)) return bad("the order of its segments");
      segments_.push_back(*p);
    } else if (p->p_type == PT_DYNAMIC) {
      if (dynamic_segment_.p_type == PT_DYNAMIC) return bad("its second dynamic section");
      dynamic_segment_ = *p;
    } else if (p->p_type == PT_GNU_STACK) {
      stack_said = true;
      facts.executable_stack = (p->p_flags & PF_X) != 0;
    }
  }
  // Where nothing is said the system's default holds, and that is an executable stack.
  if (!stack_said) facts.executable_stack = true;
  if (dynamic_segment_.p_type != PT_DYNAMIC) return bad("the lack of a dynamic section");
  return {};
}

parsed<> image::read_dynamic() {
  const uint64_t count = dynamic_segment_.p_memsz / sizeof(Elf64_Dyn);
  for (uint64_t i = 0; i < count; ++i) {
    const auto entry = at_address<Elf64_Dyn>(dynamic_segment_.p_vaddr + i * sizeof(Elf64_Dyn));
    if (!entry) return bad("its dynamic section");
    const uint64_t value = entry->d_un.d_val;
    switch (entry->d_tag) {
      case DT_NULL:
        return {};
      case DT_STRTAB:
        dynamic_.strings = value, dynamic_.has_strings = true;
        break;
      case DT_STRSZ:
        dynamic_.strings_size = value;
        break;
      case DT_SYMTAB:
        dynamic_.symbols = value, dynamic_.has_symbols = true;
        break;
      case DT_SYMENT:
        if (value != sizeof(Elf64_Sym)) return bad("the size of its symbols");
        break;
      case DT_HASH:
        dynamic_.hash = value;
        break;
      case DT_GNU_HASH:
        dynamic_.gnu_hash = value;
        break;
      case DT_FLAGS:
        dynamic_.flags |= value;
        break;
      case DT_FLAGS_1:
        dynamic_.flags_1 |= value;
        break;
      case DT_NEEDED:
      case DT_RPATH:
      case DT_RUNPATH:
      case DT_AUDIT:
      case DT_DEPAUDIT:
      case DT_FILTER:
      case DT_AUXILIARY:
        if (dynamic_.texts.size() >= most_name) return bad("the number of libraries that it needs");
        dynamic_.texts.emplace_back(entry->d_tag, value);
        break;
      default:
        break;
    }
  }
  return bad("the end of its dynamic section");
}

// How many symbols a DT_GNU_HASH table reaches: the last of the longest chain, plus one.
parsed<uint64_t> image::gnu_symbols(uint64_t table) const {
  struct head {
    uint32_t buckets, first, bloom_words, bloom_shift;
  };
  const auto h = at_address<head>(table);
  if (!h) return bad("its hash table");
  const uint64_t buckets = table + sizeof(head) + uint64_t{h->bloom_words} * 8;
  const uint64_t chains = buckets + uint64_t{h->buckets} * 4;
  if (chains < table || !offset_of(buckets, uint64_t{h->buckets} * 4)) return bad("its hash table");
  uint64_t last = 0;
  for (uint64_t i = 0; i < h->buckets; ++i) {
    const uint64_t begin = at_address<uint32_t>(buckets + i * 4).value_or(0);
    // The linker would read such a chain from before the chains, and reach symbols that are not counted here.
    if (begin != 0 && begin < h->first) return bad("its hash table");
    last = std::max(last, begin);
  }
  if (last == 0) return uint64_t{h->first};
  for (; last < bytes_.size() / sizeof(Elf64_Sym); ++last) {
    const auto chain = at_address<uint32_t>(chains + (last - h->first) * 4);
    if (!chain) return bad("its hash table");
    if (*chain & 1) return last + 1;
  }
  return bad("its hash table");
}

parsed<uint64_t> image::count_symbols() const {
  uint64_t count = 0;
  if (dynamic_.hash != 0) {
    const auto head = at_address<std::array<uint32_t, 2>>(dynamic_.hash);
    if (!head) return bad("its hash table");
    count = (*head)[1];
  }
  if (dynamic_.gnu_hash != 0) {
    const auto reached = gnu_symbols(dynamic_.gnu_hash);
    if (!reached) return reached;
    count = std::max(count, *reached);
  }
  return count;
}

parsed<> image::read_texts(elf_facts &facts) const {
  if (dynamic_.texts.empty()) return {};
  const auto table = offset_of(dynamic_.strings, dynamic_.strings_size);
  if (!dynamic_.has_strings || !table) return bad("its string table");
  for (const auto &[tag, from] : dynamic_.texts) {
    const auto word = text(*table, dynamic_.strings_size, from);
    if (!word) return bad("a name in its dynamic section");
    const bool by_path = word->find('/') != std::string_view::npos;
    if ((tag != DT_NEEDED || by_path) && facts.search_path.empty()) facts.search_path = std::string(*word);
  }
  return {};
}

bool is_unwinder(std::string_view name) noexcept {
  return name == "_Unwind_RaiseException" || name == "_Unwind_Resume" || name == "_Unwind_Find_FDE";
}

// A function, in a segment that may be executed: what is not would crash the host when it is called.
bool image::is_code(const Elf64_Sym &symbol) const noexcept {
  const unsigned type = ELF64_ST_TYPE(symbol.st_info);
  if (type != STT_FUNC || symbol.st_shndx == SHN_ABS || symbol.st_shndx == SHN_UNDEF) return false;
  return std::any_of(segments_.begin(), segments_.end(), [&](const Elf64_Phdr &s) {
    return (s.p_flags & PF_X) != 0 && symbol.st_value >= s.p_vaddr && symbol.st_value - s.p_vaddr < s.p_filesz;
  });
}

parsed<> image::read_symbols(elf_facts &facts) const {
  const auto count = count_symbols();
  if (!count) return tl::unexpected(count.error());
  if (*count == 0) return {};
  if (*count > bytes_.size() / sizeof(Elf64_Sym)) return bad("the number of its symbols");
  const auto symbols = offset_of(dynamic_.symbols, *count * sizeof(Elf64_Sym));
  const auto strings = offset_of(dynamic_.strings, dynamic_.strings_size);
  if (!dynamic_.has_symbols || !dynamic_.has_strings || !symbols || !strings) return bad("its symbol table");
  bool imports_unwind = false, imports_phdr = false;
  for (uint64_t i = 1; i < *count; ++i) {
    const auto symbol = *at<Elf64_Sym>(*symbols + i * sizeof(Elf64_Sym));
    const auto name = text(*strings, dynamic_.strings_size, symbol.st_name);
    if (!name) return bad("a symbol's name");
    const unsigned bind = ELF64_ST_BIND(symbol.st_info);
    const unsigned visibility = ELF64_ST_VISIBILITY(symbol.st_other);
    if (symbol.st_shndx == SHN_UNDEF) {
      imports_unwind |= name->starts_with("_Unwind_");
      imports_phdr |= *name == "dl_iterate_phdr";
      if (*name == "_dl_find_object") facts.unwinder = std::string(*name);
      // dlsym hands out one that has a value all the same.
      if (symbol.st_value == 0) continue;
    }
    if (is_unwinder(*name)) facts.unwinder = std::string(*name);
    if (bind == STB_LOCAL || visibility == STV_HIDDEN || visibility == STV_INTERNAL) continue;
    if (bind == STB_GNU_UNIQUE) facts.unique_symbol = true;
    ++facts.exports;
    if (*name == THOLE_PLUGIN_ENTRY_SYMBOL) facts.exports_entry = is_code(symbol);
    else if (facts.other_exports.size() < most_reported) facts.other_exports.emplace_back(*name);
  }
  if (facts.unwinder.empty() && imports_phdr && !imports_unwind) facts.unwinder = "dl_iterate_phdr";
  return {};
}

// A library that was not stripped still names what it has hidden.
parsed<> image::read_section_symbols(elf_facts &facts) const {
  if (header_.e_shnum == 0 || !facts.unwinder.empty()) return {};
  if (header_.e_shentsize != sizeof(Elf64_Shdr) || header_.e_shoff > bytes_.size()) return bad("its section headers");
  for (Elf64_Half i = 0; i < header_.e_shnum; ++i) {
    const auto section = at<Elf64_Shdr>(header_.e_shoff + uint64_t{i} * sizeof(Elf64_Shdr));
    if (!section) return bad("its section headers");
    if (section->sh_type != SHT_SYMTAB) continue;
    const auto strings = section->sh_link < header_.e_shnum
                             ? at<Elf64_Shdr>(header_.e_shoff + uint64_t{section->sh_link} * sizeof(Elf64_Shdr))
                             : std::nullopt;
    if (!strings || section->sh_offset > bytes_.size() || section->sh_size > bytes_.size() - section->sh_offset)
      return bad("its full symbol table");
    for (uint64_t at_byte = 0; at_byte + sizeof(Elf64_Sym) <= section->sh_size; at_byte += sizeof(Elf64_Sym)) {
      const auto symbol = *at<Elf64_Sym>(section->sh_offset + at_byte);
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_name == 0) continue;
      const auto name = text(strings->sh_offset, strings->sh_size, symbol.st_name);
      if (!name) return bad("a name in its full symbol table");
      if (is_unwinder(*name)) facts.unwinder = std::string(*name);
    }
  }
  return {};
}

parsed<elf_facts> image::facts() {
  elf_facts out;
  parsed<> step = read_segments(out);
  if (step) step = read_dynamic();
  if (step) step = read_texts(out);
  if (step) step = read_symbols(out);
  if (step) step = read_section_symbols(out);
  if (!step) return tl::unexpected(step.error());
  out.static_tls = (dynamic_.flags & DF_STATIC_TLS) != 0;
  out.executable = (dynamic_.flags_1 & DF_1_PIE) != 0;
  return out;
}

}  // namespace

const char *this_machine() noexcept {
  return own_name;
}

result<elf_facts> read_elf(std::span<const unsigned char> bytes) {
  if (bytes.size() < sizeof(Elf64_Ehdr) || std::memcmp(bytes.data(), ELFMAG, SELFMAG) != 0)
    return fail(reason::PluginNotElf, "the library is not an ELF file: install it again");
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != own_machine)
    return fail(
        reason::PluginOtherMachine, "the library is for {} ({} bits, machine {}), this machine is {}: install that one",
        machine_name(header.e_machine), header.e_ident[EI_CLASS] == ELFCLASS32 ? 32 : 64, header.e_machine, own_name);
  if (header.e_type != ET_DYN)
    return fail(reason::PluginNotElf, "the library is not a shared object (ELF type {}): link it with -shared",
                header.e_type);
  auto facts = image(bytes).facts();
  if (!facts) return fail(reason::PluginNotElf, "the library is damaged at {}: install it again", facts.error().what);
  return std::move(*facts);
}

result<> check_elf(const elf_facts &facts, const std::string &name) {
  if (facts.executable) return fail(reason::PluginNotElf, "{} is a program: link it with -shared", name);
  if (facts.static_tls)
    return fail(reason::PluginStaticTls,
                "{} wants static TLS, of which a running process may have none left: build it "
                "with -ftls-model=global-dynamic",
                name);
  if (facts.executable_stack)
    return fail(reason::PluginExecutableStack,
                "{} would make the process's stacks executable: link it with -z noexecstack", name);
  if (!facts.search_path.empty())
    return fail(reason::PluginSearchPath,
                "{} brings the path {} along, whose files its digest does not cover: link it "
                "without -rpath and name libraries without a path",
                name, facts.search_path);
  if (!facts.unwinder.empty())
    return fail(reason::PluginOwnUnwinder,
                "{} carries an unwinder of its own ({}), and an exception in it would end the "
                "process: link it with -shared-libgcc",
                name, facts.unwinder);
  if (facts.unique_symbol)
    return fail(reason::PluginSymbolExtra,
                "{} exports a unique symbol ({}), which all copies in a process share: compile "
                "with -fno-gnu-unique and hide it",
                name, facts.other_exports.empty() ? THOLE_PLUGIN_ENTRY_SYMBOL : facts.other_exports.front());
  if (!facts.exports_entry)
    return fail(reason::PluginSymbolMissing, "{} does not export the function {}: mark it with THOLE_EXPORT", name,
                THOLE_PLUGIN_ENTRY_SYMBOL);
  if (facts.exports != 1)
    return fail(reason::PluginSymbolExtra,
                "{} exports {} symbols, {} among them: hide all but {} with a version script", name, facts.exports,
                facts.other_exports.empty() ? "the entry twice" : facts.other_exports.front(),
                THOLE_PLUGIN_ENTRY_SYMBOL);
  return {};
}

}  // namespace thole::loader
