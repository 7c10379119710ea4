#include "site.h"

#include <cstdlib>

extern "C" {
#include "record/config.h"
}

namespace thole::slurm {

result<slurm_site> read_site() {
  const char *own = std::getenv("THOLE_SLURM_CONF");
  const char *slurm = std::getenv("SLURM_CONF");
  slurm_site site;
  site.path = own != nullptr ? own : "/etc/slurm/thole.conf";
  if (own == nullptr && slurm != nullptr)
    site.path = std::string(slurm).substr(0, std::string(slurm).rfind('/') + 1) + "thole.conf";
  slurm_config config;
  char why[longest_why];
  if (read_config(site.path.c_str(), &config, why, sizeof why) != 0) return fail(reason::FieldBad, "{}", why);
  site.shard_mib = config.shard_mib;
  site.largest_mib = config.largest_mib;
  return site;
}

}  // namespace thole::slurm
