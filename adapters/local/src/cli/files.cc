// thole init, validate, pool.
#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "cli/options.h"
#include "run/start.h"
#include "state/sweep.h"

namespace thole::local {
namespace {

constexpr std::string_view job_template =
    R"(# A job of two ranks. `thole validate` checks this file, `thole plan` shows where it would run, `thole run` runs it.
apiVersion: thole.dev/v1alpha1
kind: TrainingJob
metadata:
  name: example
spec:
  roles:
    - name: trainer
      members: 2                  # each is one process, and one rank
      # vgpu: {memory: 10Gi, share: 0.25}   # a part of a GPU for each; or  gpus: {count: 1}
      cpu: 500m
      memory: 256Mi
      # Any program. It finds RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and more: docs/reference/job-environment.md
      command: [sh, -c, 'echo "rank $RANK of $WORLD_SIZE at $MASTER_ADDR"; sleep 1']
  gracePeriod: 30s                # for a last checkpoint when the job is asked to stop
  # checkpoint:                   # for scripts that use the thole package
  #   interval: 100               # train steps
  #   keep: 3
  recovery:
    maxWithoutProgress: 3         # incidents in a row without a newer checkpoint, after which it is given up
)";

struct files_arguments {
  std::string job;
  std::string pool;
};

result<int> validate(const common_options &common, const std::vector<std::string> &paths) {
  THOLE_LET(const auto core, library::open({}));
  json all = json::array();
  int worst = exit_ok;
  for (const std::string &path : paths) {
    auto d = read_document_file(*core, path);
    const std::vector<remark> &remarks = d ? d->remarks : d.error().remarks;
    if (!d) worst = exit_code_of(d.error());
    if (common.as_json) {
      all.push_back({{"file", path},
                     {"valid", d.has_value()},
                     {"kind", d ? d->kind : ""},
                     {"name", d ? d->name : ""},
                     {"notes", remarks_json(remarks)}});
      if (!d && remarks.empty()) all.back()["message"] = d.error().message;
      continue;
    }
    if (d) print(fmt::format("{}: {} {} is good\n", path, d->kind, d->name));
    if (!d && remarks.empty()) print_problem(d.error(), false);
    for (const remark &r : remarks)
      std::fprintf(stderr, "%s%s\n", remark_text(r, path).c_str(), r.error ? "" : " (remark)");
  }
  if (common.as_json) print_json({{"files", std::move(all)}});
  return worst;
}

result<int> show_pool(const common_options &common, const std::string &path) {
  THOLE_LET(const layout l, layout::open(common.state));
  THOLE_LET(const auto reader, library::open({}));
  THOLE_LET(const pool_choice pool, read_pool(*reader, path, nullptr));
  THOLE_LET(ledger g, ledger::open(l, pool, {}, true));
  THOLE_TRY(sweep(l, g));
  THOLE_LET(const json gpus, g.usage());
  if (common.as_json) {
    print_json({{"pool", pool.name}, {"simulated", pool.simulated}, {"gpus", gpus}});
    return exit_ok;
  }
  print(fmt::format("pool {}{}\n", pool.name, pool.simulated ? " (simulated)" : ""));
  for (const json &gpu : gpus)
    print(fmt::format("  {}  {}  {}  {} free of {}, share free {:.3g}, {} holders{}\n", gpu["node"].get<std::string>(),
                      gpu["uuid"].get<std::string>(), gpu["model"].get<std::string>(),
                      bytes_text(gpu["freeMemoryMiB"].get<uint64_t>() << 20),
                      bytes_text(gpu["memoryMiB"].get<uint64_t>() << 20), gpu["freeShareMilli"].get<double>() / 1000,
                      gpu["holders"].get<uint64_t>(), gpu["healthy"].get<bool>() ? "" : ", takes nothing new"));
  return exit_ok;
}

}  // namespace

void add_init(CLI::App &app, const common_options &, command *chosen) {
  CLI::App *c = app.add_subcommand("init", "Prints a commented job file");
  c->footer("Examples:\n  thole init > job.yaml");
  c->callback([chosen] {
    *chosen = [](const common_options &) -> result<int> {
      print(std::string(job_template));
      return exit_ok;
    };
  });
}

void add_validate(CLI::App &app, const common_options &, command *chosen) {
  CLI::App *c = app.add_subcommand("validate", "Checks job files and pool files");
  const auto paths = std::make_shared<std::vector<std::string>>();
  c->add_option("file", *paths, "TrainingJob or NodePool, YAML or JSON")->required();
  c->footer("Examples:\n  thole validate job.yaml\n  thole --json validate job.yaml pool.yaml");
  c->callback([=] { *chosen = [=](const common_options &common) { return validate(common, *paths); }; });
}

void add_pool(CLI::App &app, const common_options &, command *chosen) {
  CLI::App *c = app.add_subcommand("pool", "Shows the GPUs of a pool, and what is free on them");
  const auto path = std::make_shared<std::string>();
  c->add_option("--pool", *path, "NodePool file [this machine]");
  c->footer("Examples:\n  thole pool                          this machine's GPUs\n  thole pool --pool pool.yaml");
  c->callback([=] { *chosen = [=](const common_options &common) { return show_pool(common, *path); }; });
}

}  // namespace thole::local
