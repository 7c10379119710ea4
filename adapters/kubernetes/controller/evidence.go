package controller

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/names"
	"thole.dev/kubernetes/rank"
)

// Kinds of incidents as a status says them.
const (
	kindExit   = "Exit"
	kindSignal = "Signal"
	kindHang   = "Hang"
	kindStart  = "Start"
	kindMemory = "Memory"
	kindNode   = "Node"
	// Of an Ending: nothing has failed.
	kindStop      = "Stop"
	kindTimeLimit = "TimeLimit"
)

func isFailure(e *api.Ending) bool { return e.Kind != kindStop && e.Kind != kindTimeLimit }

// view is one pod of the present attempt as the cluster shows it.
type view struct {
	pod     *v1.Pod
	rank    uint32
	ended   bool // nothing of it runs any more, or nobody can know
	lost    bool // its node is gone or has not been heard of
	failed  bool
	facts   rank.Facts
	closed  *v1.ContainerStateTerminated
	running bool
}

// viewOf reads a pod. lost: its node is gone or unreachable.
func viewOf(pod *v1.Pod, firstRank uint32, lost bool) view {
	out := view{pod: pod, rank: firstRank, lost: lost}
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		if s.Name == "main" {
			out.closed, out.running = s.State.Terminated, s.State.Running != nil
		}
	}
	if out.closed != nil {
		out.facts = rank.FactsOf(out.closed.Message) // without facts there is still the exit code
	}
	switch pod.Status.Phase {
	case v1.PodSucceeded:
		out.ended = true
	case v1.PodFailed:
		out.ended, out.failed = true, true
	default:
		// One that was never on a node ends when it is deleted.
		out.ended = lost || (pod.DeletionTimestamp != nil && pod.Spec.NodeName == "")
		out.failed = lost || (out.closed != nil && out.closed.ExitCode != 0)
	}
	return out
}

// trouble tells why the attempt cannot go on, while nobody has asked for its end.
func trouble(views []view) *api.Ending {
	for _, v := range views {
		switch {
		case v.lost:
			return &api.Ending{Kind: kindNode, Member: v.pod.Name, Message: lostMessage(v.pod)}
		case v.failed:
			return &api.Ending{} // who is to blame is found when all have ended
		case v.pod.DeletionTimestamp != nil:
			return &api.Ending{Kind: kindSignal, Member: v.pod.Name, Message: v.pod.Name + " was deleted, and not by this controller"}
		}
	}
	return nil
}

func lostMessage(pod *v1.Pod) string {
	return fmt.Sprintf("node %s of %s is gone or does not answer", pod.Spec.NodeName, pod.Name)
}

// blame finds the incident of an attempt whose pods have all ended.
func blame(ending *api.Ending, views []view) api.Incident {
	slices.SortStableFunc(views, func(a, b view) int { return compare(a, b) })
	first := views[0]
	for _, v := range views {
		if ending.Member != "" && v.pod.Name == ending.Member {
			first = v
		}
	}
	out := incidentOf(first)
	if ending.Kind != "" && (first.closed == nil || ending.Kind == kindSignal) {
		out.Kind, out.Message, out.Cause = ending.Kind, ending.Message, ""
		if ending.Kind == kindSignal {
			out.Code = 15
		}
	}
	for _, v := range views {
		out.Step = max(out.Step, v.facts.Committed)
	}
	return out
}

// quietMs is so long that no rank that lives is quiet: it says that it lives every 500 ms.
const quietMs = 3000

// compare puts the pod that is more likely the cause first: one that hung or whose node is lost; one that was killed with
// SIGKILL, which no peer's failure makes; by the second in which it ended; then one that could not say anything before one
// that could, because a peer that only lost it can; then by the time that was noted.
func compare(a, b view) int {
	order := func(is func(v view) bool) int {
		switch x, y := is(a), is(b); {
		case x && !y:
			return -1
		case y && !x:
			return 1
		}
		return 0
	}
	return cmp.Or(order(func(v view) bool { return v.lost || v.facts.QuietMs > quietMs }),
		order(func(v view) bool { return v.failed && !v.facts.Stopped }), order(isKilled), compareTimes(a, b),
		order(func(v view) bool { return v.facts.At == 0 }), cmp.Compare(a.facts.At, b.facts.At), cmp.Compare(a.rank, b.rank))
}

// isKilled: by SIGKILL, and not because this controller has ended it: thole-rank would have noted that it was asked to stop.
func isKilled(v view) bool {
	wholly := v.facts.At == 0 && v.closed != nil && v.closed.ExitCode == 137
	return !v.facts.Stopped && (v.facts.Signal == 9 || wholly)
}

func compareTimes(a, b view) int {
	if a.closed == nil || b.closed == nil {
		return 0
	}
	return a.closed.FinishedAt.Compare(b.closed.FinishedAt.Time)
}

func incidentOf(v view) api.Incident {
	attempt, _ := strconv.ParseInt(v.pod.Labels[names.Attempt], 10, 64)
	out := api.Incident{Attempt: attempt, Rank: v.rank, Member: v.pod.Name, Node: v.pod.Spec.NodeName, Time: metav1.NewMicroTime(timeOf(v))}
	f := v.facts
	code := 0
	if v.closed != nil {
		code = int(v.closed.ExitCode)
	}
	switch {
	case v.lost:
		out.Kind, out.Message = kindNode, lostMessage(v.pod)
	case f.Hang != "" || f.QuietMs > quietMs:
		out.Kind, out.Message = kindHang, cmp.Or(f.Hang, fmt.Sprintf("no sign of life for %.1f s when it was ended", float64(f.QuietMs)/1000))
	case f.NotBegun != "":
		out.Kind, out.Message, out.Cause = kindStart, f.NotBegun, cause(f.NotBegun)
	case v.closed != nil && v.closed.Reason == "OOMKilled":
		out.Kind, out.Message = kindMemory, "killed because its memory was out"
	case f.Signal != 0 || code == 137 || code == 143:
		out.Kind, out.Code = kindSignal, int32(cmp.Or(f.Signal, code-128))
		out.Message = fmt.Sprintf("killed by signal %d", out.Code)
	case v.closed == nil && initFailure(v.pod) != "":
		out.Kind, out.Message = kindStart, initFailure(v.pod)
	case v.closed == nil:
		out.Kind, out.Message = kindNode, cmp.Or(v.pod.Status.Message, v.pod.Status.Reason, "it ended without its container having run")
	default:
		out.Kind, out.Code, out.Message = kindExit, int32(code), fmt.Sprintf("left with exit code %d", code)
		out.Cause = cause(fmt.Sprint("exit ", code))
	}
	if f.Failure != nil && out.Kind == kindExit {
		out.Message = fmt.Sprintf("%s: %s (%s)", f.Failure.Type, f.Failure.Message, f.Failure.Place)
		out.Cause = cause(f.Failure.Type + "\n" + f.Failure.Place)
	}
	return out
}

// initFailure says which init container has failed, or nothing.
func initFailure(pod *v1.Pod) string {
	for _, s := range pod.Status.InitContainerStatuses {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("its init container %s ended with exit code %d (%s)", s.Name, t.ExitCode, t.Reason)
		}
	}
	return ""
}

func timeOf(v view) time.Time {
	switch {
	case v.facts.At != 0:
		return time.Unix(0, v.facts.At)
	case v.closed != nil:
		return v.closed.FinishedAt.Time
	}
	return time.Now()
}

// cause is equal for equal texts.
func cause(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
