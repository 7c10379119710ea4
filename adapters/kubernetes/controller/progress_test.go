package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/names"
	"thole.dev/kubernetes/rank"
)

// running has so many jobs that run, each with its rank 0 at an address of its own.
type running struct {
	client.Reader
	jobs []api.TrainingJob
}

func (r running) List(_ context.Context, to client.ObjectList, options ...client.ListOption) error {
	if all, ok := to.(*api.TrainingJobList); ok {
		all.Items = r.jobs
		return nil
	}
	var o client.ListOptions
	o.ApplyOptions(options)
	key := strings.TrimPrefix(o.FieldSelector.String(), progressField+"=")
	for n, job := range r.jobs {
		if progressKey(job.UID, job.Status.Attempt) == key {
			pod := v1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{names.Progress: "26500"}}, Status: v1.PodStatus{PodIP: fmt.Sprintf("10.0.%d.%d", n/250, n%250)}}
			to.(*v1.PodList).Items = []v1.Pod{pod}
		}
	}
	return nil
}

func jobsThatRun(count int) running {
	var r running
	for n := range count {
		job := api.TrainingJob{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("j", n), UID: types.UID(fmt.Sprint("u", n))}}
		job.Status.Phase, job.Status.Attempt = api.Running, 2
		r.jobs = append(r.jobs, job)
	}
	return r
}

// says is a dial whose other side writes a text and closes.
func says(text string) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write([]byte(text))
			theirs.Close()
		}()
		return ours, nil
	}
}

func line(p rank.Progress) string {
	text, _ := json.Marshal(p)
	return string(text) + "\n"
}

func TestWhatRankZeroSaysIsChecked(t *testing.T) {
	good := rank.Progress{Run: "u0", Attempt: 2, Step: 57, Committed: 40}
	other, older, huge := good, good, good
	other.Run, older.Attempt, huge.Committed = "u1", 1, 1<<63
	silent := func(context.Context, string, string) (net.Conn, error) {
		ours, _ := net.Pipe()
		return ours, nil
	}
	swallowed := func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * askTimeout):
			return nil, errors.New("it has waited for ever")
		}
	}
	refused := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	endless := says(strings.Repeat(" ", 1<<20) + line(good))
	cases := []struct {
		what string
		dial func(context.Context, string, string) (net.Conn, error)
		want string // of the error
	}{
		{"the truth", says(line(good)), ""}, {"another job at its address", says(line(other)), "another job"}, {"an older attempt", says(line(older)), "another attempt"},
		{"a step that is none", says(line(huge)), "no step"}, {"nothing, for ever", silent, "does not say"}, {"a closed connection", says(""), "EOF"},
		{"no JSON", says("HTTP/1.1 200 OK\r\n\r\n"), "does not say"}, {"more than a line", endless, "EOF"}, {"another type", says(`{"step": "57"}`), "does not say"},
		{"a number that no integer holds", says(`{"run": "u0", "attempt": 2, "step": 1e99}`), "does not say"}, {"nobody", refused, "NetworkPolicy"}, {"a network that swallows everything", swallowed, "deadline exceeded"},
	}
	for _, c := range cases {
		r := jobsThatRun(1)
		a := newAsker(r)
		a.dial = c.dial
		since := time.Now()
		address, err := a.addressOf(t.Context(), &r.jobs[0])
		if err != nil || address != "10.0.0.0:26500" {
			t.Fatal(address, err)
		}
		heard, err := a.question(t.Context(), address, &r.jobs[0])
		if c.want == "" && (err != nil || heard != good) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %+v, %v", c.what, heard, err)
		}
		if took := time.Since(since); took > 3*askTimeout {
			t.Errorf("%s took %v", c.what, took)
		}
	}
	fmt.Printf("%d of %d answers are taken for what they are\n", len(cases), len(cases))
}

func TestWhatIsNews(t *testing.T) {
	r := jobsThatRun(1)
	job := &r.jobs[0]
	a := newAsker(r)
	now := time.Now()
	later := func(d time.Duration) time.Time { now = now.Add(d); return now }
	failure := errors.New("nobody")
	if n := len(a.due(t.Context(), now)); n != 1 {
		t.Fatal(n)
	}
	first, second := rank.Progress{Run: "u0", Attempt: 2, Step: 57, Committed: 40}, rank.Progress{Run: "u0", Attempt: 2, Step: 61, Committed: 60}
	steps := []struct {
		heard rank.Progress
		err   error
		after time.Duration
		news  bool
	}{{first, nil, 0, true}, {first, nil, time.Second, false}, {second, nil, time.Second, true}, {second, nil, untold, true}, {second, failure, 1, false},
		{second, failure, 1, false}, {second, failure, 1, true}, {second, failure, 1, false}, {second, nil, 1, true}}
	for n, s := range steps {
		if got := a.note(job, s.heard, s.err, later(s.after)); got != s.news {
			t.Errorf("%d: %+v: %v", n, s, got)
		}
		if s.err != nil && len(a.due(t.Context(), now)) != 0 {
			t.Errorf("%d: a job that does not answer is asked again at once", n)
		}
	}
	a.learned(job)
	if p := job.Status.Progress; p == nil || p.Step != 61 || p.Message != "" || p.Time.IsZero() || job.Status.Checkpoint != 60 {
		t.Errorf("%+v", job.Status)
	}
	for range enough {
		a.note(job, first, failure, now)
	}
	if a.learned(job); job.Status.Progress.Step != 61 || job.Status.Progress.Message != "nobody" {
		t.Errorf("%+v", job.Status.Progress)
	}
	// What the attempt before has said is not this one's.
	job.Status.Attempt, job.Status.Progress = 3, nil
	if a.learned(job); job.Status.Progress != nil {
		t.Errorf("%+v", job.Status.Progress)
	}
	job.Status.Phase = api.Complete
	if a.due(t.Context(), now); len(a.states) != 0 {
		t.Error("what is known of a job that has ended is kept")
	}
}

// TestManyJobsThatDoNotAnswer: of a thousand, with a network that swallows everything, a few are asked at a time, and one that
// answers is heard all the same.
func TestManyJobsThatDoNotAnswer(t *testing.T) {
	r := jobsThatRun(1000)
	a := newAsker(r)
	a.least = 20 * time.Millisecond
	var mu sync.Mutex
	open, most := 0, 0
	a.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		open++
		most = max(most, open)
		mu.Unlock()
		defer func() {
			mu.Lock()
			open--
			mu.Unlock()
		}()
		if address == "10.0.0.7:26500" {
			return says(line(rank.Progress{Run: "u7", Attempt: 2, Step: 1}))(ctx, network, address)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
			return nil, errors.New("i/o timeout")
		}
	}
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Start(ctx) }()
	for heard := false; !heard; {
		select {
		case event := <-a.news:
			heard = event.Object.GetName() == "j7"
		case <-time.After(20 * time.Second):
			t.Fatal("the one that answers was not heard")
		}
	}
	mu.Lock()
	if now := runtime.NumGoroutine(); most > atOnce || now > before+3*atOnce {
		t.Errorf("%d questions at once, %d goroutines more", most, now-before)
	}
	mu.Unlock()
	cancel()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("it does not end")
	}
	fmt.Printf("1000 jobs: at most %d questions at once\n", most)
}
