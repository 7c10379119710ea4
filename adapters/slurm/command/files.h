// files.h: small files, programs that are run, and numbers in texts.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "problem.h"

namespace thole::slurm {

result<std::string> read_file(const std::string &path);
// Replaced as a whole, readable by its owner only.
result<> write_file(const std::string &path, const std::string &text);
result<> make_private_folder(const std::string &path);  // and its parents
bool exists(const std::string &path);
std::string absolute(const std::string &path);

// What a program printed and how it ended; `code` is 128 + n after a signal, 127 if it is not there.
struct finished {
  int code = 0;
  std::string out;
  std::string err;
};
result<finished> run_program(const std::vector<std::string> &argv);
std::string own_program();

std::vector<std::string> lines_of(std::string_view text);
std::optional<uint64_t> number(std::string_view text);
std::string shell_word(const std::string &text);

}  // namespace thole::slurm
