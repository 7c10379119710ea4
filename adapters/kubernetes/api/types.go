// Package api has the resources of Thole on Kubernetes: TrainingJob and NodePool. Their specs are those of the job file and
// the pool file, read by the core and by nobody else, so they are kept here as they were written.
package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"thole.dev/kubernetes/names"
)

// TrainingJob is a job file in the cluster.
type TrainingJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              runtime.RawExtension `json:"spec"`
	Status            JobStatus            `json:"status,omitempty"`
}

// Phases of a TrainingJob. The last three are ends.
const (
	Refused    = "Refused" // the file is bad; see the condition Accepted
	Waiting    = "Waiting" // for a place, or for its containers
	Running    = "Running"
	Recovering = "Recovering" // an attempt has failed and is being ended
	Stopping   = "Stopping"
	Complete   = "Complete"
	Failed     = "Failed"
	Stopped    = "Stopped"
)

// Conditions of a TrainingJob. Their reasons are the core's.
const (
	Accepted    = "Accepted"
	Placed      = "Placed"
	Ready       = "Ready" // all members run
	JobComplete = "Complete"
	JobFailed   = "Failed"
)

// JobStatus is what the controller says of a job. The attempt is raised here before its pods are made.
type JobStatus struct {
	Phase              string                `json:"phase,omitempty"`
	ObservedGeneration int64                 `json:"observedGeneration,omitempty"`
	Attempt            int64                 `json:"attempt,omitempty"`
	StartedAttempt     int64                 `json:"startedAttempt,omitempty"` // the newest of which all pods were made
	Members            string                `json:"members,omitempty"`        // that run, of how many
	Progress           *Progress             `json:"progress,omitempty"`
	Checkpoint         uint64                `json:"checkpoint,omitempty"` // step of the newest committed one that is known
	Restored           uint64                `json:"restored,omitempty"`   // step at which the newest attempt that has ended began
	StartTime          *metav1.Time          `json:"startTime,omitempty"`
	CompletionTime     *metav1.Time          `json:"completionTime,omitempty"`
	NotBefore          *metav1.MicroTime     `json:"notBefore,omitempty"` // when the next attempt may start
	Ending             *Ending               `json:"ending,omitempty"`    // the attempt is being ended, and why
	Incidents          []Incident            `json:"incidents,omitempty"` // oldest first, all of them
	Result             *runtime.RawExtension `json:"result,omitempty"`    // what the script has reported
	Conditions         []metav1.Condition    `json:"conditions,omitempty"`
}

// Progress is how far a job has last said to be. It is told by the job itself, and nothing is decided by it.
type Progress struct {
	Attempt int64        `json:"attempt"`
	Step    uint64       `json:"step"`              // train steps that are done
	Time    *metav1.Time `json:"time,omitempty"`    // when that was heard
	Message string       `json:"message,omitempty"` // why nothing is heard at present
}

// Ending says why an attempt is being ended.
type Ending struct {
	Kind    string `json:"kind"`             // of incident; "Stop" is none
	Member  string `json:"member,omitempty"` // the pod that is to blame, where that is known already
	Message string `json:"message,omitempty"`
}

// Incident is one failure.
type Incident struct {
	Attempt  int64            `json:"attempt"`
	Kind     string           `json:"kind"`
	Rank     uint32           `json:"rank"`
	Member   string           `json:"member"` // the pod
	Node     string           `json:"node,omitempty"`
	Code     int32            `json:"code,omitempty"`
	Step     uint64           `json:"step"` // the newest that was safe in a committed checkpoint
	Cause    string           `json:"cause,omitempty"`
	Time     metav1.MicroTime `json:"time"`
	Message  string           `json:"message"`
	Decision string           `json:"decision,omitempty"` // what was decided, in a sentence
}

// NodePool is a pool file in the cluster: nodes that carry the label thole.dev/pool with its name are in it.
type NodePool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              runtime.RawExtension `json:"spec"`
	Status            PoolStatus           `json:"status,omitempty"`
}

// PoolStatus says what of the pool there is.
type PoolStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Nodes              int32              `json:"nodes"`
	GPUs               int32              `json:"gpus"`
	Simulated          bool               `json:"simulated,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// TrainingJobList is for the client.
type TrainingJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrainingJob `json:"items"`
}

// NodePoolList is for the client.
type NodePoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodePool `json:"items"`
}

// GroupVersion of both.
var GroupVersion = schema.GroupVersion{Group: names.Group, Version: names.Version}

// AddToScheme makes them known to a client.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &TrainingJob{}, &TrainingJobList{}, &NodePool{}, &NodePoolList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
