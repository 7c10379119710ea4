#include "cli/elsewhere.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/options.h"

namespace thole::local {
namespace {

// Takes `--on NAME` or `--on=NAME` out of the arguments.
std::string take_platform(std::vector<std::string> &arguments) {
  for (std::size_t i = 1; i < arguments.size() && arguments[i] != "--"; ++i) {
    const bool joined = arguments[i].rfind("--on=", 0) == 0;
    if (!joined && (arguments[i] != "--on" || i + 1 == arguments.size())) continue;
    const std::string name = joined ? arguments[i].substr(5) : arguments[i + 1];
    const auto at = arguments.begin() + static_cast<std::ptrdiff_t>(i);
    arguments.erase(at, at + (joined ? 1 : 2));
    return name;
  }
  return "local";
}

// In the build tree each platform has its folder; installed, they are beside each other or in libexec.
std::vector<std::string> places(const std::string &platform) {
  std::error_code bad;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", bad).parent_path();
  const std::string program = "thole-" + platform;
  return {own / program, own.parent_path() / platform / program, own.parent_path() / "libexec/thole" / program,
          program};
}

}  // namespace

std::optional<int> go_elsewhere(int argc, char **argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  std::string platform = take_platform(arguments);
  if (platform == "local" && arguments.size() > 1 &&
      arguments[1] == "ray") {  // `thole ray start`: Ray has commands of its own
    platform = arguments[1];
    arguments.erase(arguments.begin() + 1);
  }
  if (platform == "local") return std::nullopt;
  const bool is_name = !platform.empty() && std::all_of(platform.begin(), platform.end(),
                                                        [](unsigned char c) { return c >= 'a' && c <= 'z'; });
  std::vector<char *> words;
  for (std::string &a : arguments) words.push_back(a.data());
  words.push_back(nullptr);
  if (is_name)
    for (const std::string &place : places(platform)) ::execvp(place.c_str(), words.data());
  const bool missing = !is_name || errno == ENOENT;
  print_problem(
      make_problem(
          missing ? reason::CommandNotFound : reason::CommandNotExecutable,
          "--on " + platform + ": the program thole-" + platform +
              (missing ? " is not installed here: local, slurm, kubernetes and ray are the platforms of this version"
                       : std::string(" cannot be run: ") + std::strerror(errno))),
      false);
  return exit_usage;
}

}  // namespace thole::local
