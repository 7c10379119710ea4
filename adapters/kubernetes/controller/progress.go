package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/names"
	"thole.dev/kubernetes/rank"
)

// asker asks the rank 0 of every job that runs how far it is, and lets the job be reconciled when that is news. What it
// hears is for people, and the newest checkpoint for the count of incidents without progress, as the termination message is,
// which comes from the same container. Who asks is this process, so a rank needs no rights in the cluster (ADR 15).
type asker struct {
	jobs   client.Reader
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	news   chan event.GenericEvent
	least  time.Duration // between two questions to a job
	mu     sync.Mutex
	states map[types.UID]*asked
}

// asked is what is known of one job.
type asked struct {
	attempt   int64
	heard     rank.Progress
	at        time.Time // when it was heard
	told      time.Time // when a reconciliation was last asked for
	failures  int       // in a row
	notBefore time.Time
	why       string // why nothing is heard
}

const (
	atOnce     = 8  // questions under way: more wait, and no goroutine is made for them
	aSecond    = 20 // questions, and so at most as many writes, over all jobs
	askTimeout = time.Second
	untold     = time.Minute // no news is told so often, so that one sees that it is still heard
	longPause  = time.Minute // between questions to a job that does not answer
	enough     = 3           // failures before they are told
)

func newAsker(jobs client.Reader) *asker {
	return &asker{jobs: jobs, dial: (&net.Dialer{Timeout: askTimeout}).DialContext, news: make(chan event.GenericEvent), least: 2 * time.Second,
		states: map[types.UID]*asked{}}
}

// NeedLeaderElection: only who writes status asks.
func (a *asker) NeedLeaderElection() bool { return true }

// Start asks round after round, until the context is done.
func (a *asker) Start(ctx context.Context) error {
	work := make(chan api.TrainingJob)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for job := range work {
				a.ask(ctx, &job)
			}
		})
	}
	defer workers.Wait()
	defer close(work)
	for {
		begun := time.Now()
		due := a.due(ctx, begun)
		for _, job := range due {
			select {
			case work <- job:
			case <-ctx.Done():
				return nil
			}
		}
		rest := max(a.least, time.Duration(len(due))*time.Second/aSecond) - time.Since(begun)
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return nil
		}
	}
}

// due are the jobs to be asked now; what is known of jobs that do not run any more is forgotten.
func (a *asker) due(ctx context.Context, now time.Time) []api.TrainingJob {
	var all api.TrainingJobList
	// Read and not changed, so a history of any length is not copied every two seconds.
	if err := a.jobs.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	var out []api.TrainingJob
	running := map[types.UID]bool{}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, job := range all.Items {
		if job.Status.Phase != api.Running {
			continue
		}
		running[job.UID] = true
		if s := a.states[job.UID]; s == nil || s.attempt != job.Status.Attempt {
			a.states[job.UID] = &asked{attempt: job.Status.Attempt}
		} else if now.Before(s.notBefore) {
			continue
		}
		out = append(out, job)
	}
	for uid := range a.states {
		if !running[uid] {
			delete(a.states, uid)
		}
	}
	return out
}

func (a *asker) ask(ctx context.Context, job *api.TrainingJob) {
	address, err := a.addressOf(ctx, job)
	var heard rank.Progress
	if err == nil {
		heard, err = a.question(ctx, address, job)
	}
	if ctx.Err() != nil || !a.note(job, heard, err, time.Now()) {
		return
	}
	select {
	case a.news <- event.GenericEvent{Object: job}:
	case <-ctx.Done():
	}
}

// note keeps an answer, or why there was none, and says whether it is news.
func (a *asker) note(job *api.TrainingJob, heard rank.Progress, err error, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.states[job.UID]
	if s == nil || s.attempt != job.Status.Attempt {
		return false
	}
	if err != nil {
		s.failures++
		s.notBefore = now.Add(min(a.least<<min(s.failures, 10), longPause))
		if s.failures < enough || s.why == err.Error() {
			return false
		}
		s.why, s.told = err.Error(), now
		return true
	}
	isNews := s.at.IsZero() || s.why != "" || heard != s.heard || now.Sub(s.told) >= untold
	s.heard, s.at, s.failures, s.notBefore, s.why = heard, now, 0, time.Time{}, ""
	if isNews {
		s.told = now
	}
	return isNews
}

// addressOf answers where the job's rank 0 tells how far it is.
func (a *asker) addressOf(ctx context.Context, job *api.TrainingJob) (string, error) {
	var pods v1.PodList
	if err := a.jobs.List(ctx, &pods, client.InNamespace(job.Namespace), client.MatchingFields{progressField: progressKey(job.UID, job.Status.Attempt)}); err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if p.Status.PodIP != "" {
			return net.JoinHostPort(p.Status.PodIP, p.Annotations[names.Progress]), nil
		}
	}
	return "", errors.New("rank 0 has no address")
}

// question reads one line of bounded length, within a bounded time, and sends nothing.
func (a *asker) question(ctx context.Context, address string, job *api.TrainingJob) (rank.Progress, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	connection, err := a.dial(ctx, "tcp", address)
	if err != nil {
		return rank.Progress{}, fmt.Errorf("rank 0 cannot be asked how far it is (%v): does a NetworkPolicy keep thole-controller from it?", bare(err))
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(askTimeout))
	var said rank.Progress
	if err := json.NewDecoder(io.LimitReader(connection, rank.MostProgress)).Decode(&said); err != nil {
		return rank.Progress{}, fmt.Errorf("rank 0 does not say how far it is (%v)", bare(err))
	}
	// An address may be another pod's by now.
	if said.Run != string(job.UID) || said.Attempt != job.Status.Attempt {
		return rank.Progress{}, errors.New("what answers at the address of rank 0 is another job, or another attempt")
	}
	if said.Step > rank.MostStep || said.Committed > rank.MostStep {
		return rank.Progress{}, errors.New("rank 0 tells a step that is no step")
	}
	return said, nil
}

// bare is an error of the network without its addresses, of which one is new each time: the same failure is told once.
func bare(err error) error {
	var of *net.OpError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// learned takes what was heard of a job's present attempt into its status.
func (a *asker) learned(object *api.TrainingJob) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.states[object.UID]
	if s == nil || s.attempt != object.Status.Attempt || s.at.IsZero() && s.why == "" {
		return
	}
	out := &api.Progress{Attempt: s.attempt, Step: s.heard.Step, Message: s.why}
	if !s.at.IsZero() {
		out.Time = of(metav1.NewTime(s.at))
		object.Status.Checkpoint = max(object.Status.Checkpoint, s.heard.Committed)
	}
	object.Status.Progress = out
}

// progressField of pods: those that tell the progress of an attempt.
const progressField = "thole.dev/progress"

func progressKey(job types.UID, attempt int64) string { return fmt.Sprintf("%s/%d", job, attempt) }

func progressKeyOf(object client.Object) []string {
	owner := metav1.GetControllerOf(object)
	if owner == nil || object.GetAnnotations()[names.Progress] == "" {
		return nil
	}
	return []string{string(owner.UID) + "/" + object.GetLabels()[names.Attempt]}
}
