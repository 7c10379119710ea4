// site.h: thole.conf of this cluster.
#pragma once

#include "problem.h"

namespace thole::slurm {

struct slurm_site {
  std::string path;
  uint64_t shard_mib = 0;
  uint64_t largest_mib = 0;
};

// $THOLE_SLURM_CONF, else beside $SLURM_CONF, else /etc/slurm/thole.conf.
result<slurm_site> read_site();

}  // namespace thole::slurm
