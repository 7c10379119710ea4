// Every slot of every table, called with arguments that are right but for the handles.
#pragma once

#include <functional>

#include "host.h"

namespace host {

struct handles {
  thole_core core{};
  thole_writer writer{};
  thole_reader reader{};
};

struct slot {
  std::string name;
  bool pure;  // takes no handle into account
  std::function<thole_code(const handles &, thole_status *)> call;
};

inline std::vector<slot> core_slots(world &w) {
  const auto *t = root()->core;
  return {
      {"core.open", true,
       [=](const handles &, thole_status *s) {
         thole_core opened{};
         const thole_code code = t->open(nullptr, &opened, s);
         if (code == THOLE_OK) t->close(opened, nullptr);
         return code;
       }},
      {"core.close", false, [=](const handles &h, thole_status *s) { return t->close(h.core, s); }},
      {"core.load", false,
       [=, &w](const handles &h, thole_status *s) { return t->load(h.core, str(w.place.path), s); }},
      {"core.plugins", false,
       [=](const handles &h, thole_status *s) {
         auto answer = sized<thole_plugin_list>();
         lent memory;
         return t->plugins(h.core, &answer, &memory.room, s);
       }},
      {"core.key_new", false,
       [=, &w](const handles &h, thole_status *s) {
         static int count = 0;
         const std::string path = w.place.path + "/key" + std::to_string(++count);
         return t->key_new(h.core, str(path), s);
       }},
  };
}

inline std::vector<slot> gang_slots(world &w) {
  const auto *t = root()->gang;
  return {
      {"gang.set_levels", false,
       [=, &w](const handles &h, thole_status *s) {
         const thole_list l = list(w.levels);
         return t->set_levels(h.core, &l, s);
       }},
      {"gang.set_nodes", false,
       [=, &w](const handles &h, thole_status *s) {
         const thole_list l = list(w.nodes);
         return t->set_nodes(h.core, &l, s);
       }},
      {"gang.remove_node", false,
       [=](const handles &h, thole_status *s) { return t->remove_node(h.core, THOLE_STR("unknown"), s); }},
      {"gang.plan", false,
       [=, &w](const handles &h, thole_status *s) {
         auto plan = sized<thole_plan>();
         lent memory;
         return t->plan(h.core, &w.request, 0, &plan, &memory.room, s);
       }},
      {"gang.explain", false,
       [=, &w](const handles &h, thole_status *s) {
         auto why = sized<thole_explanation>();
         lent memory;
         return t->explain(h.core, &w.request, 0, &why, &memory.room, s);
       }},
      {"gang.reserve", false,
       [=, &w](const handles &h, thole_status *s) {
         auto plan = sized<thole_plan>();
         lent memory;
         const thole_code code = t->plan(h.core, &w.request, 0, &plan, &memory.room, s);
         if (code != THOLE_OK && code != THOLE_STALE && code != THOLE_FORKED) return code;
         const auto reservation = sized<thole_reservation>();
         return t->reserve(h.core, &w.request, &plan, &reservation, s);
       }},
      {"gang.confirm", false,
       [=, &w](const handles &h, thole_status *s) { return t->confirm(h.core, w.request.gang, 0, s); }},
      {"gang.gangs", false,
       [=](const handles &h, thole_status *s) {
         const auto query = sized<thole_gang_query>();
         auto plans = sized<thole_plan_list>();
         lent memory;
         return t->gangs(h.core, &query, &plans, &memory.room, s);
       }},
      {"gang.usage", false,
       [=](const handles &h, thole_status *s) {
         const auto query = sized<thole_gang_query>();
         auto usage = sized<thole_usage>();
         lent memory;
         return t->usage(h.core, &query, &usage, &memory.room, s);
       }},
      {"gang.release", false,
       [=, &w](const handles &h, thole_status *s) { return t->release(h.core, w.request.gang, s); }},
      {"gang.cancel", false,
       [=, &w](const handles &h, thole_status *s) { return t->cancel(h.core, w.request.gang, s); }},
  };
}

inline std::vector<slot> checkpoint_slots(world &w) {
  const auto *t = root()->checkpoint;
  return {
      {"checkpoint.fence", false,
       [=, &w](const handles &h, thole_status *s) { return t->fence(h.core, &w.store, 1, nullptr, s); }},
      {"checkpoint.begin", false,
       [=, &w](const handles &h, thole_status *s) {
         static uint64_t step = 0;
         auto save = sized<thole_save>();
         save.attempt = 1;
         save.step = ++step;
         save.parts = 1;
         thole_writer writer{};
         const thole_code code = t->begin(h.core, &w.store, &save, &writer, s);
         if (code == THOLE_OK) t->end(writer, nullptr);
         return code;
       }},
      {"checkpoint.put", false,
       [=](const handles &h, thole_status *s) {
         const one_tensor tensor;
         return t->put(h.writer, &tensor.item, s);
       }},
      {"checkpoint.seal", false, [=](const handles &h, thole_status *s) { return t->seal(h.writer, nullptr, s); }},
      {"checkpoint.end", false, [=](const handles &h, thole_status *s) { return t->end(h.writer, s); }},
      {"checkpoint.open", false,
       [=, &w](const handles &h, thole_status *s) {
         thole_reader reader{};
         const thole_code code = t->open(h.core, &w.store, nullptr, &reader, s);
         if (code == THOLE_OK) t->close(reader, nullptr);
         return code;
       }},
      {"checkpoint.describe", false,
       [=](const handles &h, thole_status *s) {
         auto contents = sized<thole_checkpoint_contents>();
         lent memory;
         return t->describe(h.reader, &contents, &memory.room, s);
       }},
      {"checkpoint.get", false,
       [=](const handles &h, thole_status *s) {
         float to[4];
         auto box = sized<thole_box>();
         box.name = THOLE_STR("weights");
         box.to = to;
         box.size = sizeof to;
         return t->get(h.reader, &box, s);
       }},
      {"checkpoint.close", false, [=](const handles &h, thole_status *s) { return t->close(h.reader, s); }},
      {"checkpoint.list", false,
       [=, &w](const handles &h, thole_status *s) {
         auto found = sized<thole_checkpoint_list>();
         lent memory;
         return t->list(h.core, &w.store, &found, &memory.room, s);
       }},
      {"checkpoint.verify", false,
       [=, &w](const handles &h, thole_status *s) { return t->verify(h.core, &w.store, nullptr, nullptr, s); }},
      {"checkpoint.retire", false,
       [=, &w](const handles &h, thole_status *s) { return t->retire(h.core, &w.store, 1, nullptr, s); }},
  };
}

inline thole_str job_text() {
  return THOLE_STR(
      "apiVersion: thole.dev/v1alpha1\nkind: TrainingJob\nmetadata: {name: digits}\n"
      "spec:\n  roles:\n  - name: trainer\n    members: 2\n    command: [python3, train.py]\n"
      "    vgpu: {memory: 10Gi, share: 0.25}\n");
}

inline std::vector<slot> draft_slots(world &w) {
  const auto *job = root()->job;
  const auto *device = root()->device;
  const auto *partition = root()->partition;
  const auto *metrics = root()->metrics;
  const auto *recovery = root()->recovery;
  return {
      {"job.read", true,
       [=](const handles &h, thole_status *s) {
         auto document = sized<thole_document>();
         lent memory;
         return job->read(h.core, job_text(), {}, &document, &memory.room, s);
       }},
      {"job.gang", true,
       [=](const handles &h, thole_status *s) {
         auto request = sized<thole_gang_request>();
         lent memory;
         return job->gang(h.core, THOLE_STR("{}"), {1, 1}, &request, &memory.room, s);
       }},
      {"job.nodes", true,
       [=](const handles &h, thole_status *s) {
         thole_list levels{}, nodes{};
         const thole_list none{};
         lent memory;
         return job->nodes(h.core, THOLE_STR("{}"), THOLE_STR("n0"), &none, &levels, &nodes, &memory.room, s);
       }},
      {"job.schema", true,
       [=](const handles &h, thole_status *s) {
         thole_str json{};
         lent memory;
         return job->schema(h.core, THOLE_STR("TrainingJob"), &json, &memory.room, s);
       }},
      {"device.list", false,
       [=](const handles &h, thole_status *s) {
         auto gpus = sized<thole_gpu_list>();
         lent memory;
         return device->list(h.core, THOLE_STR("none"), THOLE_STR("{}"), &gpus, &memory.room, s);
       }},
      {"partition.assign", true,
       [=, &w](const handles &h, thole_status *s) {
         auto grant = sized<thole_grant>();
         grant.uuid = w.gpus[0][0].uuid;
         grant.kind = THOLE_KIND_VGPU;
         grant.share_milli = 250;
         grant.memory_mib = 10240;
         grant.flags = THOLE_GPU_SIMULATED;
         auto placement = sized<thole_placement>();
         placement.ranks = 1;
         placement.node = THOLE_STR("n0");
         placement.grants = host::one(grant);
         auto member = sized<thole_member>();
         member.gang = {1, 2};
         member.attempt = member.generation = 1;
         member.role = THOLE_STR("trainer");
         member.placement = &placement;
         auto assignment = sized<thole_assignment>();
         lent memory;
         return partition->assign(h.core, &member, &assignment, &memory.room, s);
       }},
      {"partition.read_record", true,
       [=](const handles &h, thole_status *s) {
         auto record = sized<thole_record>();
         lent memory;
         return partition->read_record(h.core, THOLE_STR("no record"), &record, &memory.room, s);
       }},
      {"metrics.define", false,
       [=](const handles &h, thole_status *s) {
         auto family = sized<thole_family>();
         family.name = THOLE_STR("contract_calls");
         family.help = THOLE_STR("Calls.");
         family.kind = THOLE_METRIC_COUNTER;
         uint32_t number = 0;
         return metrics->define(h.core, &family, &number, s);
       }},
      {"metrics.bind", false,
       [=](const handles &h, thole_status *s) {
         const thole_list values{};
         thole_cell *cell = nullptr;
         return metrics->bind(h.core, 0, &values, &cell, s);
       }},
      {"metrics.collect", false,
       [=](const handles &h, thole_status *s) { return metrics->collect(h.core, THOLE_STR("/nonexistent/file"), s); }},
      {"metrics.render", false,
       [=](const handles &h, thole_status *s) {
         thole_str text{};
         lent memory;
         return metrics->render(h.core, &text, &memory.room, s);
       }},
      {"recovery.decide", true,
       [=](const handles &h, thole_status *s) {
         auto incident = sized<thole_incident>();
         incident.kind = THOLE_INCIDENT_SIGNAL;
         incident.code = 9;
         incident.attempt = 1;
         const thole_list l = host::one(incident);
         const auto policy = sized<thole_recovery_policy>();
         auto decision = sized<thole_decision>();
         lent memory;
         return recovery->decide(h.core, &l, &policy, &decision, &memory.room, s);
       }},
  };
}

inline std::vector<slot> every_slot(world &w) {
  std::vector<slot> all;
  for (auto group : {core_slots, gang_slots, checkpoint_slots, draft_slots})
    for (auto &one : group(w)) all.push_back(std::move(one));
  return all;
}

// Slots that the tables have, by their sizes.
inline std::size_t slots_of_all_tables() {
  const thole_root *r = root();
  uint64_t bytes = 0;
  for (const void *table : {static_cast<const void *>(r->core), static_cast<const void *>(r->gang),
                            static_cast<const void *>(r->checkpoint), static_cast<const void *>(r->job),
                            static_cast<const void *>(r->device), static_cast<const void *>(r->partition),
                            static_cast<const void *>(r->metrics), static_cast<const void *>(r->recovery)})
    bytes += *static_cast<const uint64_t *>(table) - sizeof(uint64_t);
  return bytes / sizeof(void *);
}

}  // namespace host
