// Libraries: any bytes get an answer, and what passes has the one export that it is to have. The corpus has the first
// pages of real ones; the header is put right first, or hardly anything would be read behind it.
#include "loader/elf.h"

#include <elf.h>

#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

void check(std::span<const unsigned char> bytes) {
  const auto facts = thole::loader::read_elf(bytes);
  if (!facts) {
    if (facts.error().text().size() < 8) std::abort();
    return;
  }
  if (facts->other_exports.size() > facts->exports) std::abort();
  const auto good = thole::loader::check_elf(*facts, "a.so");
  if (good && (facts->exports != 1 || !facts->exports_entry || !facts->search_path.empty())) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, std::size_t size) {
  check({data, size});
  if (size < sizeof(Elf64_Ehdr)) return 0;
  std::vector<unsigned char> right(data, data + size);
  Elf64_Ehdr header;
  std::memcpy(&header, right.data(), sizeof header);
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
#if defined(__x86_64__)
  header.e_machine = EM_X86_64;
#else
  header.e_machine = EM_AARCH64;
#endif
  header.e_type = ET_DYN;
  header.e_phentsize = sizeof(Elf64_Phdr);
  std::memcpy(right.data(), &header, sizeof header);
  check(right);
  return 0;
}
