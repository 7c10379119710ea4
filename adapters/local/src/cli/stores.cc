// thole ckpt, key, plugin.
#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "cli/options.h"
#include "core/checkpoints.h"
#include "core/ledger.h"

namespace thole::local {
namespace {

struct ckpt_arguments {
  std::string name;
  std::optional<uint64_t> step;
};

// A job's checkpoints, found through its state. f(const checkpoints &) answers what is to be printed.
template <class F>
result<json> with_checkpoints(const common_options &common, const std::string &name, F &&f) {
  THOLE_LET(const layout l, layout::open(common.state));
  THOLE_LET(const job_state s, load(l, name));
  if (s.store.empty())
    return fail(reason::CheckpointNone, "job {} makes no checkpoints: its file has no spec.checkpoint", name);
  THOLE_LET(const std::string text, read_file(l.job(name) + "/job.json", 4u << 20));
  THOLE_LET(const job_spec spec, job_spec_from(text));
  THOLE_LET(const auto core, library::open({}));
  THOLE_LET(store_place place, bind_store(l, *core, text, spec, s.folder, s.run, missing_key::fail));
  return f(checkpoints(*core, std::move(place)));
}

result<int> list(const common_options &common, const ckpt_arguments &a) {
  THOLE_LET(const json all, with_checkpoints(common, a.name, [](const checkpoints &c) { return c.list(true); }));
  if (common.as_json) {
    print_json({{"checkpoints", all}});
    return exit_ok;
  }
  if (all.empty()) print("no checkpoints\n");
  for (const json &c : all)
    print(fmt::format("step {:<8} attempt {:<3} {:<10} {} of {} parts  {} ({} as stored)  {}{}\n",
                      c["step"].get<uint64_t>(), c["attempt"].get<uint64_t>(), c["state"].get<std::string>(),
                      c["partsPresent"].get<uint64_t>(), c["parts"].get<uint64_t>(),
                      bytes_text(c["bytes"].get<uint64_t>()), bytes_text(c["fileBytes"].get<uint64_t>()),
                      c["committed"].get<std::string>(),
                      c["reason"].get<std::string>().empty() ? "" : "  " + c["reason"].get<std::string>()));
  return exit_ok;
}

std::string shape_text(const json &shape) {
  std::vector<std::string> sizes;
  for (const json &n : shape) sizes.push_back(std::to_string(n.get<uint64_t>()));
  return "[" + join(sizes, ", ") + "]";
}

result<int> inspect(const common_options &common, const ckpt_arguments &a) {
  THOLE_LET(const json c,
            with_checkpoints(common, a.name, [&](const checkpoints &all) { return all.inspect(a.step); }));
  if (common.as_json) {
    print_json(c);
    return exit_ok;
  }
  print(fmt::format("step {}, attempt {}, {} parts, {}; freshness {}\n", c.value("step", uint64_t{0}),
                    c.value("attempt", uint64_t{0}), c.value("parts", 0), bytes_text(c.value("bytes", uint64_t{0})),
                    c.value("fresh", false) ? "proven" : "unproven"));
  for (const json &item : c["items"])
    print(fmt::format("  {:<40} {}\n", item["name"].get<std::string>(),
                      item.contains("shape") ? item["dtype"].get<std::string>() + " " + shape_text(item["shape"])
                                             : item["kind"].get<std::string>()));
  return exit_ok;
}

result<int> verify(const common_options &common, const ckpt_arguments &a) {
  THOLE_LET(const json v, with_checkpoints(common, a.name, [&](const checkpoints &all) { return all.verify(a.step); }));
  if (common.as_json) print_json(v);
  else
    print(fmt::format("good: {} parts, {} chunks, {}\n", v["parts"].get<uint64_t>(), v["chunks"].get<uint64_t>(),
                      bytes_text(v["bytes"].get<uint64_t>())));
  return exit_ok;
}

result<int> key_new(const common_options &common, const std::string &name, std::string file) {
  THOLE_LET(const auto core, library::open({}));
  if (file.empty()) {
    THOLE_LET(const layout l, layout::open(common.state));
    if (name.empty() || name.find('/') != std::string::npos || name[0] == '.')
      return fail(reason::NameBad, "a key's name is letters, digits and '-'; a path is given with --file");
    file = l.keys() + "/" + name + ".key";
  }
  file = absolute_path(file);
  THOLE_TRY(call([&](thole_status *s) { return core->root().core->key_new(core->core(), borrow(file), s); }));
  if (common.as_json) print_json({{"key", file}});
  else print(file + "\n");
  return exit_ok;
}

result<int> plugins(const common_options &common, const std::string &folder) {
  THOLE_LET(const auto core, library::open({}));
  const std::string from = folder.empty() ? plugin_folder() : absolute_path(folder);
  THOLE_TRY(call([&](thole_status *s) { return core->root().core->load(core->core(), borrow(from), s); }));
  answer_room room;
  auto list = sized<thole_plugin_list>();
  THOLE_TRY(call_with_room(
      room, [&](thole_buffer *b, thole_status *s) { return core->root().core->plugins(core->core(), &list, b, s); }));
  json all = json::array();
  each<thole_plugin_info>(list.plugins, [&](const thole_plugin_info &p) {
    all.push_back({{"id", own(p.id)},
                   {"provides", own(p.provides)},
                   {"version", own(p.version)},
                   {"manifest", own(p.manifest)},
                   {"loaded", p.reason.len == 0},
                   {"reason", own(p.reason)},
                   {"message", own(p.message)}});
  });
  if (common.as_json) {
    print_json({{"folder", from}, {"plugins", all}});
    return exit_ok;
  }
  print(from + (all.empty() ? ": no plugins\n" : "\n"));
  for (const json &p : all)
    print(fmt::format(
        "  {:<24} {:<8} {:<8} {}\n", p["id"].get<std::string>(), p["provides"].get<std::string>(),
        p["version"].get<std::string>(),
        p["loaded"].get<bool>() ? "loaded" : p["reason"].get<std::string>() + ": " + p["message"].get<std::string>()));
  return exit_ok;
}

using ckpt_command = result<int> (*)(const common_options &, const ckpt_arguments &);

void add_ckpt_command(CLI::App *group, const char *name, const char *what, bool with_step, ckpt_command f,
                      command *chosen) {
  const auto a = std::make_shared<ckpt_arguments>();
  CLI::App *c = group->add_subcommand(name, what);
  c->add_option("name", a->name, "A job's name")->required();
  if (with_step)
    c->add_option_function<uint64_t>(
        "--step", [a](const uint64_t &step) { a->step = step; }, "Of this train step [the newest]");
  c->footer(fmt::format("Examples:\n  thole ckpt {} digits", name));
  c->callback([=] { *chosen = [=](const common_options &common) { return f(common, *a); }; });
}

}  // namespace

void add_ckpt(CLI::App &app, const common_options &, command *chosen) {
  CLI::App *group = app.add_subcommand("ckpt", "Looks into a job's checkpoints");
  group->require_subcommand(1);
  add_ckpt_command(group, "ls", "Lists the checkpoints of the job's newest run", false, list, chosen);
  add_ckpt_command(group, "inspect", "Lists what a checkpoint holds", true, inspect, chosen);
  add_ckpt_command(group, "verify", "Reads every byte of a checkpoint, and checks it", true, verify, chosen);
  group->footer(
      "Examples:\n  thole ckpt ls digits\n  thole ckpt inspect digits --step 100\n  thole ckpt verify digits");
}

void add_key(CLI::App &app, const common_options &, command *chosen) {
  CLI::App *group = app.add_subcommand("key", "Keys of checkpoints");
  group->require_subcommand(1);
  CLI::App *c = group->add_subcommand("new", "Writes a new random key into a new file of mode 0600");
  const auto name = std::make_shared<std::string>();
  const auto file = std::make_shared<std::string>();
  c->add_option("name", *name, "The name that job files use: the file is keys/NAME.key of the state folder");
  c->add_option("--file", *file, "A path of your own instead");
  c->footer("Examples:\n  thole key new digits\n  thole key new --file secret/digits.key");
  c->callback([=] { *chosen = [=](const common_options &common) { return key_new(common, *name, *file); }; });
}

void add_plugin(CLI::App &app, const common_options &, command *chosen) {
  CLI::App *group = app.add_subcommand("plugin", "Device plugins");
  group->require_subcommand(1);
  CLI::App *c = group->add_subcommand("ls", "Lists what the plugin folder holds, and what was refused and why");
  const auto folder = std::make_shared<std::string>();
  c->add_option("--folder", *folder, "Folder [$THOLE_PLUGINS, or thole/plugins beside the library]");
  c->footer("Examples:\n  thole plugin ls");
  c->callback([=] { *chosen = [=](const common_options &common) { return plugins(common, *folder); }; });
}

}  // namespace thole::local
