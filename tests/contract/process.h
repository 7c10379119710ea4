// What a library could change in the process that loads it, as text, so that before and after can be compared.
#pragma once

#include <dirent.h>
#include <locale.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

extern char **environ;

namespace host {

inline std::vector<std::string> entries(const char *folder) {
  std::vector<std::string> names;
  DIR *d = opendir(folder);
  if (d == nullptr) return names;
  const int own = dirfd(d);
  while (const dirent *e = readdir(d))
    if (e->d_name[0] != '.' && std::to_string(own) != e->d_name) names.push_back(e->d_name);
  closedir(d);
  std::sort(names.begin(), names.end());
  return names;
}

inline std::size_t threads_of_process() {
  return entries("/proc/self/task").size();
}

inline std::string state_of_process() {
  std::string all;
  auto line = [&](const std::string &what, const std::string &is) { all += what + " " + is + "\n"; };
  for (const auto &fd : entries("/proc/self/fd")) {
    char target[512];
    const ssize_t n = readlink(("/proc/self/fd/" + fd).c_str(), target, sizeof target);
    line("descriptor " + fd, std::string(target, n < 0 ? 0 : static_cast<std::size_t>(n)));
  }
  line("threads", std::to_string(threads_of_process()));
  for (int s = 1; s < 65; ++s) {
    struct sigaction action {};
    if (sigaction(s, nullptr, &action) != 0) continue;
    char text[64];
    snprintf(text, sizeof text, "%p %x", reinterpret_cast<void *>(action.sa_handler),
             static_cast<unsigned>(action.sa_flags));
    line("signal " + std::to_string(s), text);
  }
  sigset_t mask;
  sigprocmask(SIG_BLOCK, nullptr, &mask);
  std::string blocked;
  for (int s = 1; s < 65; ++s) blocked += sigismember(&mask, s) == 1 ? '1' : '0';
  line("mask", blocked);
  for (char **e = environ; *e != nullptr; ++e) line("environment", *e);
  const mode_t old = umask(0);
  umask(old);
  line("umask", std::to_string(old));
  char folder[4096];
  line("folder", getcwd(folder, sizeof folder) == nullptr ? "" : folder);
  line("locale", setlocale(LC_ALL, nullptr));
  return all;
}

// The lines that differ.
inline std::string changes(const std::string &before, const std::string &after) {
  std::string found;
  auto missing = [&](const std::string &from, const std::string &in, const char *mark) {
    for (std::size_t at = 0; at < from.size();) {
      const std::size_t end = from.find('\n', at) + 1;
      const std::string line = from.substr(at, end - at);
      if (("\n" + in).find("\n" + line) == std::string::npos) found += mark + line;
      at = end;
    }
  };
  missing(before, after, "- ");
  missing(after, before, "+ ");
  return found;
}

}  // namespace host
