// loader/elf.h: what a library's bytes say about it, before anything of it is mapped.
//
// A pure function over bytes. It reads what the dynamic linker reads (program headers, the dynamic section and the hash
// tables, by address), because section headers are free to say something else; only the question for an unwinder looks
// into the full symbol table as well, where the file still has one. Every offset, count and length is checked before
// use, so that any bytes at all get an answer (tests/fuzz).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace thole::loader {

struct elf_facts {
  uint64_t exports = 0;                    // symbols that dlsym would find
  std::vector<std::string> other_exports;  // the first of them that are not the entry
  bool exports_entry = false;              // and it is code
  bool unique_symbol = false;              // STB_GNU_UNIQUE: shared with every other copy in the process
  bool static_tls = false;                 // DF_STATIC_TLS: room for it may be gone when a process is already running
  bool executable_stack = false;           // loading it would make every stack of the process executable
  bool executable = false;                 // a position-independent program, which cannot be loaded
  std::string search_path;  // RPATH, RUNPATH, a filter, or a needed library by path: bytes that no digest covers
  std::string unwinder;     // the symbol that gives it away
};

// Fails: PluginNotElf, PluginOtherMachine.
//
// The rule for the unwinder. A library that links libgcc_eh or libunwind into itself hides their symbols, and a
// stripped one has forgotten them. What cannot be hidden is where such an unwinder gets the frames from: glibc's
// _dl_find_object, which exists for unwinders only, or dl_iterate_phdr. So a library has its own unwinder if
//   its symbol tables define _Unwind_RaiseException, _Unwind_Resume or _Unwind_Find_FDE, or
//   it imports _dl_find_object, or
//   it imports dl_iterate_phdr and imports no _Unwind_* (whoever walks frames with the system's unwinder imports both).
result<elf_facts> read_elf(std::span<const unsigned char> bytes);

// The first thing for which a library with these facts is refused; `name` is for the sentence.
result<> check_elf(const elf_facts &facts, const std::string &name);

// This machine's name in a manifest: "x86_64" or "aarch64".
const char *this_machine() noexcept;

}  // namespace thole::loader
