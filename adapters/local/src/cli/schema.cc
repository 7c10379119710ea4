// thole schema.
#include "base/text.h"
#include "cli/options.h"
#include "core/library.h"

namespace thole::local {
namespace {

result<int> schema(const std::string &kind) {
  THOLE_LET(const auto core, library::open({}));
  THOLE_LET(const auto *job, core->job());
  answer_room room;
  thole_str text{};
  THOLE_TRY(call_with_room(
      room, [&](thole_buffer *b, thole_status *s) { return job->schema(core->core(), borrow(kind), &text, b, s); }));
  print(own(text));
  return exit_ok;
}

}  // namespace

void add_schema(CLI::App &app, const common_options &, command *chosen) {
  CLI::App *c = app.add_subcommand("schema", "Prints the JSON Schema of a kind of file, for editors and checkers");
  const auto kind = std::make_shared<std::string>("TrainingJob");
  c->add_option("kind", *kind, "TrainingJob or NodePool")->capture_default_str();
  c->footer("Examples:\n  thole schema > job.schema.json\n  thole schema NodePool | jq .properties.spec");
  c->callback([=] { *chosen = [=](const common_options &) { return schema(*kind); }; });
}

}  // namespace thole::local
