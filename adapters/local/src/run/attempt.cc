#include "run/attempt.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "process/launch.h"
#include "process/proc.h"

namespace thole::local {
namespace {

constexpr std::size_t most_traceback_lines = 40;

// Processes of this machine that the kernel has killed because memory was out.
uint64_t memory_kills() {
  auto text = read_file("/proc/vmstat", 1u << 20);
  if (!text) return 0;
  const std::size_t at = text->find("\noom_kill ");
  return at == std::string::npos ? 0 : parse_u64(text->substr(at + 10, text->find('\n', at + 1) - at - 10)).value_or(0);
}

uint64_t number_in(const json &object, const char *name) {
  const auto at = object.find(name);
  return at != object.end() && at->is_number_unsigned() ? at->get<uint64_t>() : 0;
}

std::string text_in(const json &object, const char *name) {
  const auto at = object.find(name);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

}  // namespace

attempt::attempt(event_loop &loop, attempt_plan plan, attempt_listener &listener, std::vector<injection> &injections)
    : loop_(loop), plan_(std::move(plan)), listener_(listener), injections_(injections) {
  view_.attempt = plan_.number;
  for (const member_state &m : plan_.state->members) {
    for (uint32_t r = 0; r < m.ranks; ++r) {
      rank_view &rank = view_.ranks.emplace_back();
      rank.rank = m.first_rank + r;
      rank.member = view_.members.size();
    }
    view_.members.emplace_back().where = m;
  }
}

attempt::~attempt() {
  for (member_process &m : view_.members)
    if (m.log) loop_.forget(m.log->descriptor());
}

std::vector<std::string> attempt::environment_of_member(std::size_t index, uint16_t port) const {
  const member_state &m = view_.members[index].where;
  const role_spec &role = plan_.job->roles[m.role];
  std::map<std::string, std::string> all;
  for (char **e = environ; *e != nullptr; ++e) {
    const std::string pair = *e;
    const std::size_t equals = pair.find('=');
    if (equals != std::string::npos) all[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  for (const auto &[name, value] : role.environment) all[name] = value;
  for (const std::string &pair : plan_.environments[index])
    all[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
  const auto set = [&](const char *name, const std::string &value) { all[name] = value; };
  const std::string rank = std::to_string(m.first_rank);
  // One machine: what is local is global. With simulated nodes as well, since that is where the processes are.
  set("RANK", rank), set("LOCAL_RANK", rank), set("NODE_RANK", std::to_string(index));
  set("WORLD_SIZE", std::to_string(view_.ranks.size())), set("LOCAL_WORLD_SIZE", std::to_string(view_.ranks.size()));
  set("MASTER_ADDR", "127.0.0.1"), set("MASTER_PORT", std::to_string(port));
  set("THOLE_JOB", plan_.job->name), set("THOLE_ATTEMPT", std::to_string(plan_.number));
  set("THOLE_RUN", id_text(plan_.state->run)), set("THOLE_LIBRARY", library::path());
  set("THOLE_RECORD", plan_.folder + "/record-" + rank), set("THOLE_SOCKET", plan_.runtime + "/ranks");
  set("THOLE_METRICS", plan_.folder + "/rank-" + rank + ".metrics");
  if (role.ranks_per_member > 1) {
    set("THOLE_RANKS_PER_MEMBER", std::to_string(role.ranks_per_member)), set("THOLE_FIRST_RANK", rank);
    set("NODE_RANK", std::to_string(m.member));
  }
  if (plan_.store != nullptr) {
    set("THOLE_STORE", plan_.store->folder);
    if (plan_.store->key_helper.empty()) set("THOLE_KEY", plan_.store->key_file);
    else set("THOLE_KEY_HELPER", json(plan_.store->key_helper).dump());
    if (plan_.job->interval > 0) set("THOLE_CHECKPOINT_INTERVAL", std::to_string(plan_.job->interval));
  }
  std::vector<std::string> pairs;
  for (const auto &[name, value] : all) pairs.push_back(name + "=" + value);
  return pairs;
}

result<> attempt::prepare_member(std::size_t index, uint16_t port) {
  member_process &m = view_.members[index];
  const role_spec &role = plan_.job->roles[m.where.role];
  const uint32_t rank = m.where.first_rank;
  const std::string base = plan_.folder + "/rank-" + std::to_string(rank);
  THOLE_TRY(replace_file(plan_.folder + "/record-" + std::to_string(rank), plan_.records[index]));
  launch_request request;
  request.program = plan_.programs[m.where.role];
  request.arguments = role.command;
  request.environment = environment_of_member(index, port);
  request.folder = role.workdir.empty()     ? plan_.state->folder
                   : role.workdir[0] == '/' ? role.workdir
                                            : plan_.state->folder + "/" + role.workdir;
  THOLE_LET(waiting_process process, waiting_process::fork(request));
  m.process = name_of(process.pid());
  m.log = std::make_unique<rank_log>(base + ".log", process.take_output(),
                                     [this, rank](const std::string &line) { listener_.on_line(rank, line); });
  rank_log *log = m.log.get();
  loop_.watch(log->descriptor(), [this, log] {
    if (!log->drain()) loop_.forget(log->descriptor());
  });
  waiting_.push_back(std::move(process));
  return {};
}

result<> attempt::prepare() {
  THOLE_TRY(make_private_folder(plan_.folder));
  rank_socket::events events;
  events.message = [this](int c, const json &message) { on_message(c, message); };
  events.closed = [this](int c) {
    rank_view *r = rank_of(c);
    if (r == nullptr) return;
    r->connection = 0;
    if (r->closed_batch == 0) r->closed_batch = loop_.batch();
  };
  THOLE_LET(socket_, rank_socket::open(loop_, plan_.runtime + "/ranks", std::move(events)));
  THOLE_LET(const uint16_t port, free_port());
  memory_kills_ = memory_kills();
  for (std::size_t i = 0; i < view_.members.size(); ++i) THOLE_TRY(prepare_member(i, port));
  return {};
}

result<> attempt::start() {
  view_.started_ns = now_ns();
  std::vector<waiting_process> waiting = std::move(waiting_);
  for (std::size_t i = 0; i < waiting.size(); ++i)
    THOLE_TRY(waiting[i].go(plan_.programs[view_.members[i].where.role]));
  return {};
}

rank_view *attempt::rank_of(int connection) {
  for (rank_view &r : view_.ranks)
    if (r.connection == connection && connection != 0) return &r;
  return nullptr;
}

void attempt::on_message(int connection, const json &message) {
  if (const auto hello = message.find("hello"); hello != message.end() && hello->is_object())
    return on_hello(connection, *hello);
  if (rank_view *rank = rank_of(connection)) return on_rank_message(*rank, message);
  warn("a connection was closed: its first line was not a hello");
  socket_->close(connection);
}

void attempt::on_hello(int connection, const json &hello) {
  const uint64_t rank = number_in(hello, "rank");
  if (number_in(hello, "protocol") != 1 || number_in(hello, "attempt") != plan_.number || rank >= view_.ranks.size()) {
    warn("a process said hello with protocol {}, attempt {}, rank {}: not of this attempt",
         number_in(hello, "protocol"), number_in(hello, "attempt"), rank);
    socket_->send(connection, {{"stop", {{"reason", "fenced"}, {"grace", 0.0}}}});
    return socket_->close(connection);
  }
  rank_view &r = view_.ranks[rank];
  r.connection = connection;
  r.joined = true;
  r.pid = static_cast<int>(number_in(hello, "pid"));
  r.alive_ns = now_ns();
}

void attempt::on_rank_message(rank_view &rank, const json &message) {
  const int64_t now = now_ns();
  rank.alive_ns = now;
  const auto object = [&](const char *name) {
    const auto at = message.find(name);
    return at != message.end() && at->is_object() ? &*at : nullptr;
  };
  if (const auto at = message.find("step"); at != message.end() && at->is_number_unsigned()) {
    const uint64_t before = rank.step;
    rank.step = at->get<uint64_t>();
    rank.stepped = true;
    rank.progress_ns = now;
    listener_.on_step(rank, before);
    inject(rank, false);
  }
  if (object("sealing") != nullptr) {
    ++rank.seals;
    rank.progress_ns = now;
    inject(rank, true);
  }
  if (const json *what = object("checkpoint")) {
    rank.progress_ns = now;
    listener_.on_checkpoint(rank, *what);
  }
  if (const json *what = object("restored")) {
    rank.progress_ns = now;
    rank.step = number_in(*what, "step");
    listener_.on_restored(rank, rank.step);
  }
  if (const json *what = object("result")) {
    rank.progress_ns = now;
    rank.reported = true;
    listener_.on_result(rank, *what);
  }
  if (const json *what = object("failure")) on_failure(rank, *what);
}

void attempt::on_failure(rank_view &rank, const json &failure) {
  if (rank.failure) return;
  failure_report f{text_in(failure, "type"), text_in(failure, "message"), text_in(failure, "place"), {}, loop_.batch()};
  if (const auto at = failure.find("traceback"); at != failure.end() && at->is_array())
    for (const json &line : *at)
      if (line.is_string() && f.traceback.size() < most_traceback_lines) f.traceback.push_back(line.get<std::string>());
  rank.failure = std::move(f);
}

void attempt::inject(const rank_view &rank, bool sealing) {
  for (injection &i : injections_) {
    if (i.done_ns != 0 || i.rank != rank.rank) continue;
    const bool due = sealing ? i.seal && *i.seal == rank.seals : i.step && rank.step >= *i.step;
    if (!due) continue;
    const member_process &m = view_.members[rank.member];
    i.done_ns = now_ns();
    ::kill(rank.pid > 0 ? rank.pid : m.process.pid, i.signal);
    say("injected: {} into rank {} {} {}", signal_text(i.signal), rank.rank, sealing ? "at its seal" : "after step",
        sealing ? rank.seals : rank.step);
  }
}

int64_t attempt::injected_at(uint32_t rank) const {
  int64_t at = 0;
  for (const injection &i : injections_)
    if (i.rank == rank && i.done_ns >= view_.started_ns) at = std::max(at, i.done_ns);
  return at;
}

void attempt::note_exit(int pid, int status) {
  for (member_process &m : view_.members) {
    if (m.process.pid != pid || m.exited) continue;
    m.exited = true;
    m.status = status;
    m.batch = loop_.batch();
    m.exit_ns = now_ns();
  }
}

void attempt::reap() {
  int status = 0;
  for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG))
    note_exit(pid, status);
}

void attempt::look(int64_t now) {
  for (member_process &m : view_.members) {
    if (m.exited) continue;
    bool stopped = false;
    if (const auto s = read_stat(m.process.pid)) stopped = s->state == 'T';
    for (const rank_view &r : view_.ranks)
      if (&view_.members[r.member] == &m && r.pid > 0 && r.pid != m.process.pid)
        if (const auto s = read_stat(r.pid)) stopped |= s->state == 'T';
    m.stopped_since_ns = !stopped ? 0 : m.stopped_since_ns == 0 ? now : m.stopped_since_ns;
  }
}

bool attempt::all_ended() const noexcept {
  return std::all_of(view_.members.begin(), view_.members.end(), [](const member_process &m) { return m.exited; });
}

bool attempt::memory_was_out() const {
  return memory_kills() > memory_kills_;
}

void attempt::ask_to_stop(const std::string &why, double grace_seconds) {
  for (const rank_view &r : view_.ranks)
    if (r.connection != 0) socket_->send(r.connection, {{"stop", {{"reason", why}, {"grace", grace_seconds}}}});
  for (const member_process &m : view_.members)
    if (!m.exited && m.process.pid > 0) ::kill(-m.process.pid, SIGTERM);
}

void attempt::end(int64_t patience_ns) {
  waiting_.clear();  // who still waits for its start ends by itself
  const int64_t deadline = now_ns() + patience_ns;
  if (patience_ns > 0)
    for (const member_process &m : view_.members)
      if (!m.exited && m.process.pid > 0) ::kill(-m.process.pid, SIGTERM);
  while (!all_ended() && now_ns() < deadline) {
    loop_.wait(10);
    reap();
  }
  // What has left its group, or outlived its parent, descends from this process all the same: it is a subreaper.
  for (;;) {
    const std::vector<proc_stat> left = descendants();
    for (const proc_stat &p : left) signal_process({p.pid, p.start, boot_id()}, SIGKILL);
    reap();
    if (left.empty()) break;
    loop_.wait(5);
  }
  for (member_process &m : view_.members) m.exited = true;
  drain();
}

void attempt::drain() {
  for (member_process &m : view_.members)
    if (m.log) m.log->drain();
  if (socket_) socket_->drain();
}

}  // namespace thole::local
