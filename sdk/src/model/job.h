// model/job.h: the TrainingJob: its description, and what no single field can say.
#pragma once

#include "model/schema.h"

namespace thole::model {

extern const field job_description;

// Fills the defaults that come from other fields, and refuses fields that contradict one another.
void complete_job(json &job, const yaml::node &root, const reading &in);

}  // namespace thole::model
