package core

// #include "calls.h"
import "C"

import "time"

// IncidentKind is what happened to a rank.
type IncidentKind int32

// The kinds of incidents (thole_incident_kind).
const (
	Exited   IncidentKind = C.THOLE_INCIDENT_EXIT
	Signaled IncidentKind = C.THOLE_INCIDENT_SIGNAL
	Hung     IncidentKind = C.THOLE_INCIDENT_HANG
	NotBegun IncidentKind = C.THOLE_INCIDENT_START
	NoMemory IncidentKind = C.THOLE_INCIDENT_MEMORY
	NodeGone IncidentKind = C.THOLE_INCIDENT_NODE
	Early    IncidentKind = C.THOLE_INCIDENT_EARLY
)

// Incident is one failure of a job.
type Incident struct {
	Kind    IncidentKind
	Rank    uint32 // the first that was affected
	Code    int32  // exit code, or signal
	Attempt uint64
	Step    uint64 // the newest step that is safe in a committed checkpoint; 0 if none
	Cause   ID     // equal causes have equal ids; zero if unknown
}

// Policy of a job's recovery. Zero means the library's default.
type Policy struct {
	MaxIncidents, MaxWithoutProgress, MaxSameCause uint32
	MinDelay, MaxDelay                             time.Duration
}

// Decision after an incident.
type Decision struct {
	Restart         bool // else the job is to stop
	WithoutProgress uint32
	Delay           time.Duration
	Reason, Message string
}

// Decide answers what to do after the last incident of a job's whole history, oldest first. The same history gives the
// same decision, for ever.
func (c *Core) Decide(history []Incident, policy Policy) (Decision, error) {
	var a arena
	defer a.release()
	out, list := array[C.thole_incident](&a, len(history))
	for i, h := range history {
		out[i] = C.thole_incident{struct_size: C.sizeof_thole_incident, kind: C.thole_incident_kind(h.Kind), rank: C.uint32_t(h.Rank),
			code: C.int32_t(h.Code), attempt: C.uint64_t(h.Attempt), step: C.uint64_t(h.Step),
			cause: C.thole_id{hi: C.uint64_t(h.Cause.Hi), lo: C.uint64_t(h.Cause.Lo)}}
	}
	p := C.thole_recovery_policy{struct_size: C.sizeof_thole_recovery_policy, max_incidents: C.uint32_t(policy.MaxIncidents),
		max_without_progress: C.uint32_t(policy.MaxWithoutProgress), max_same_cause: C.uint32_t(policy.MaxSameCause),
		min_delay_ns: C.int64_t(policy.MinDelay), max_delay_ns: C.int64_t(policy.MaxDelay)}
	d := C.thole_decision{struct_size: C.sizeof_thole_decision}
	err := a.call(1024, func(room *C.thole_buffer, status *C.thole_status) C.thole_code {
		return C.recovery_decide(c.root, c.handle, &list, &p, &d, room, status)
	})
	if err != nil {
		return Decision{}, err
	}
	return Decision{d.action == C.THOLE_RECOVERY_RESTART, uint32(d.without_progress), time.Duration(d.delay_ns), text(d.reason),
		text(d.message)}, nil
}
