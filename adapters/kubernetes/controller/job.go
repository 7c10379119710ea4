// Package controller makes pods of TrainingJobs and follows them: attempts, incidents, recovery. What a job file means and what
// follows an incident is decided by the core; what is here reads objects, writes children and status, and can be ended
// and begun again at any point.
package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// job is what the core has read of a TrainingJob.
type job struct {
	Name string
	Spec spec
	Core *core.Request // its roles in the core's numbers
}

// spec is the part of the canonical job file that is not in the core's request. Every default is filled in.
type spec struct {
	Roles []struct {
		Command      []string
		Env          map[string]string
		Workdir      string
		Image        string
		SharedMemory *resource.Quantity
	}
	Queue, Account string
	Priority       int64
	TimeLimit      duration
	GracePeriod    duration
	Volumes        []struct {
		Name, Path string
		ReadOnly   bool
	}
	Checkpoint *struct {
		Store, Key     string
		Interval, Keep uint64
	}
	Recovery struct {
		MaxIncidents, MaxWithoutProgress, MaxSameCause uint32
		MinDelay, MaxDelay, HangTimeout, StartTimeout  duration
	}
	Platforms struct {
		Kubernetes struct {
			PodPatch json.RawMessage
		}
	}
}

// duration reads the canonical form, which has days beside what Go knows.
type duration time.Duration

func (d *duration) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	var days int64
	if count, rest, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseInt(count, 10, 32)
		if err != nil {
			return err
		}
		days, s = n, rest
	}
	if s == "" {
		s = "0"
	}
	rest, err := time.ParseDuration(s)
	*d = duration(time.Duration(days)*24*time.Hour + rest)
	return err
}

func (d duration) seconds() int64 { return int64((time.Duration(d) + time.Second - 1) / time.Second) }

// refusal is a job that cannot run here, as a reason and a sentence.
type refusal struct{ Reason, Message string }

func (r *refusal) Error() string { return r.Reason + ": " + r.Message }

// most incidents are what a status can hold.
const mostIncidents = 1000

// readJob lets the core read the job, as the file that it was.
func readJob(c *core.Core, object *api.TrainingJob) (*job, error) {
	metadata := map[string]any{"name": object.Name}
	file, err := json.Marshal(map[string]any{"apiVersion": api.GroupVersion.String(), "kind": "TrainingJob", "metadata": metadata,
		"spec": json.RawMessage(object.Spec.Raw)})
	if err != nil {
		return nil, err
	}
	document, err := c.ReadDocument(string(file), "kubernetes")
	var said *core.Error
	if errors.As(err, &said) && said.Code == core.Invalid {
		return nil, &refusal{said.Reason, document.Sentence(said)}
	}
	if err != nil {
		return nil, err
	}
	out := &job{Name: object.Name}
	var whole struct{ Spec *spec }
	whole.Spec = &out.Spec
	if err := json.Unmarshal([]byte(document.JSON), &whole); err != nil {
		return nil, fmt.Errorf("the core's canonical form of %s: %w", object.Name, err)
	}
	if out.Core, err = c.RequestOf(document.JSON, core.ID{Hi: 1, Lo: 1}); err != nil {
		return nil, err
	}
	return out, out.fitsHere()
}

// fitsHere refuses what this platform does not do.
func (j *job) fitsHere() error {
	for i, role := range j.Core.Roles {
		if role.MinMembers != role.Members {
			return &refusal{"RolesContradict", fmt.Sprintf("spec.roles[%d].min: on Kubernetes all members start or none: remove it", i)}
		}
		if role.Kind == core.MIG {
			return &refusal{"NoMig", fmt.Sprintf("spec.roles[%d].mig: MIG instances are not placed on Kubernetes: use vgpu or gpus", i)}
		}
	}
	for i, role := range j.Spec.Roles {
		for _, name := range []string{"CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"} {
			if _, given := role.Env[name]; given {
				return &refusal{"NativeOverrides", fmt.Sprintf("spec.roles[%d].env.%s: on Kubernetes it is set by Thole for every rank: remove it", i, name)}
			}
		}
	}
	if n := j.Spec.Recovery.MaxIncidents; n > mostIncidents {
		return &refusal{"OutOfBounds", fmt.Sprintf("spec.recovery.maxIncidents: %d; a status on Kubernetes holds %d", n, mostIncidents)}
	}
	return nil
}

// accepted is what a person is told of a good file: what of it has no effect here.
func (j *job) accepted() string {
	var ignored []string
	for field, given := range sorted(map[string]bool{"spec.queue": j.Spec.Queue != "", "spec.account": j.Spec.Account != "", "spec.priority": j.Spec.Priority != 0}) {
		if given {
			ignored = append(ignored, field)
		}
	}
	if ignored == nil {
		return "the job file is good"
	}
	return "the job file is good; no effect on Kubernetes: " + strings.Join(ignored, ", ")
}

// member is one pod of a job.
type member struct {
	role      int
	index     uint32
	firstRank uint32
	number    uint32 // among all pods
}

func (j *job) members() []member {
	var out []member
	rank := uint32(0)
	for r, role := range j.Core.Roles {
		for m := range role.Members {
			out = append(out, member{r, m, rank, uint32(len(out))})
			rank += ranksOf(role)
		}
	}
	return out
}

func ranksOf(r core.Role) uint32 { return max(r.RanksPerMember, 1) }

func (j *job) ranks() uint32 {
	n := uint32(0)
	for _, role := range j.Core.Roles {
		n += role.Members * ranksOf(role)
	}
	return n
}

func (j *job) podName(attempt int64, m member) string {
	return fmt.Sprintf("%s-%d-%s-%d", j.Name, attempt, j.Core.Roles[m.role].Name, m.index)
}

func (j *job) policy() core.Policy {
	r := j.Spec.Recovery
	return core.Policy{MaxIncidents: r.MaxIncidents, MaxWithoutProgress: r.MaxWithoutProgress, MaxSameCause: r.MaxSameCause,
		MinDelay: time.Duration(r.MinDelay), MaxDelay: time.Duration(r.MaxDelay)}
}

// gangName of an attempt.
func gangName(object *api.TrainingJob) string {
	return fmt.Sprintf("%s-%d", object.Name, object.Status.Attempt)
}

// isStopAsked: somebody wants the job to stop with a last checkpoint.
func isStopAsked(object *api.TrainingJob) bool {
	return object.Annotations[names.Stop] == "true" || object.DeletionTimestamp != nil
}
