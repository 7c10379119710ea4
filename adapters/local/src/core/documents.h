// core/documents.h: the job file and the pool file, as the core's job service reads them.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/library.h"

namespace thole::local {

// A file, read and found good.
struct document {
  std::string kind;
  std::string name;
  std::string text;  // canonical JSON
  std::vector<remark> remarks;
};

// Fails with the first error in the message, and all of them in problem::remarks.
result<document> read_document(const library &core, const std::string &text, const std::string &name);
result<document> read_document_file(const library &core, const std::string &path);

struct role_spec {
  std::string name;
  uint32_t members = 1;
  uint32_t ranks_per_member = 1;
  bool wants_devices = false;
  std::vector<std::string> command;
  std::map<std::string, std::string> environment;
  std::string workdir;
};

// What the controller needs of a canonical TrainingJob. Where things are to be placed is the gang service's business.
struct job_spec {
  std::string name;
  std::vector<role_spec> roles;
  int64_t time_limit_ns = 0;  // 0: none
  int64_t grace_ns = 0;
  bool has_checkpoint = false;
  std::string store;
  std::string key;
  uint64_t interval = 0;
  uint32_t keep = 0;
  uint32_t max_incidents = 0;
  uint32_t max_without_progress = 0;
  uint32_t max_same_cause = 0;
  int64_t min_delay_ns = 0;
  int64_t max_delay_ns = 0;
  int64_t hang_timeout_ns = 0;  // 0: not watched
  int64_t start_timeout_ns = 0;
  bool wants_devices() const;
};

result<job_spec> job_spec_from(const std::string &canonical);

// "spec.simulated" of a canonical NodePool.
bool pool_is_simulated(const std::string &canonical);

// What the block platforms.local binds a name to.
struct key_binding {
  std::string file;
  std::vector<std::string> helper;
};
std::string bound_store(const std::string &canonical, const std::string &name);  // empty if it is not bound
key_binding bound_key(const std::string &canonical, const std::string &name);

}  // namespace thole::local
