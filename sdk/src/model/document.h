// model/document.h: a job file or a pool file, from text to its canonical form.
#pragma once

#include <string>
#include <string_view>

#include "base/yaml.h"
#include "model/schema.h"

namespace thole::model {

constexpr std::string_view api_version = "thole.dev/v1alpha1";
constexpr std::string_view job_kind = "TrainingJob";
constexpr std::string_view pool_kind = "NodePool";
inline constexpr std::string_view platforms[] = {"local", "slurm", "kubernetes", "ray"};

struct document {
  std::string kind;
  std::string name;
  json value;            // canonical, every default filled in; null if there is an error
  yaml::problems found;  // errors and remarks in the order of the file
};

// Never fails otherwise than by what is in `found`. `platform` is one of `platforms`, or empty.
document read_document(std::string_view text, std::string_view platform);

// The value of a file that must be a good one of `kind`.
result<json> read_canonical(std::string_view text, std::string_view kind);

// The description of a kind; nullptr if there is none.
const field *description_of(std::string_view kind) noexcept;

}  // namespace thole::model
