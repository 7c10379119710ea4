package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
	"thole.dev/kubernetes/rank"
)

// server is an API server that lets one write of the controller fail, before or after it was made.
type server struct {
	client.WithWatch // what the controller writes to
	plain            client.WithWatch
	writes           int
	failing          int // the number of the write that fails
	made             bool
	created          map[string]int // pods that were made, by name
	wrong            []string       // writes that a controller has no business with
}

var errLost = errors.New("the connection was lost")

func (s *server) write(write func() error) error {
	s.writes++
	if s.writes != s.failing {
		return write()
	}
	if s.made {
		_ = write()
	}
	return errLost
}

func serverOf(t *testing.T, objects ...client.Object) *server {
	t.Helper()
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1.AddToScheme, api.AddToScheme} {
		if err := add(known); err != nil {
			t.Fatal(err)
		}
	}
	s := &server{created: map[string]int{}}
	s.plain = fake.NewClientBuilder().WithScheme(known).WithTypeConverters(managedfields.NewDeducedTypeConverter()).WithObjects(objects...).WithStatusSubresource(&api.TrainingJob{}, &v1.Pod{}).Build()
	s.WithWatch = interceptor.NewClient(s.plain, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			return s.write(func() error {
				o.SetUID(types.UID("uid-" + o.GetName()))
				err := c.Create(ctx, o, options...)
				if err == nil {
					s.created[o.GetName()]++
				}
				return err
			})
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			if _, pod := o.(*v1.Pod); !pod {
				s.wrong = append(s.wrong, "delete "+o.GetName())
			}
			return s.write(func() error { return c.Delete(ctx, o, options...) })
		},
		Update: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.UpdateOption) error {
			s.wrong = append(s.wrong, "update "+o.GetName())
			return errLost
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			var parts map[string]json.RawMessage
			if text, err := patch.Data(o); err != nil || json.Unmarshal(text, &parts) != nil || !slices.Equal(slices.Collect(maps.Keys(parts)), []string{"metadata"}) {
				s.wrong = append(s.wrong, fmt.Sprint("patch ", o.GetName(), " ", parts))
			}
			return s.write(func() error { return c.Patch(ctx, o, patch, options...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, name string, o client.Object, options ...client.SubResourceUpdateOption) error {
			if _, job := o.(*api.TrainingJob); !job || name != "status" {
				s.wrong = append(s.wrong, "update "+name+" of "+o.GetName())
			}
			return s.write(func() error { return c.SubResource(name).Update(ctx, o, options...) })
		},
	})
	return s
}

// proceed is what happens in the cluster next: containers run, the second member fails once, and a job that is over is deleted.
// False when nothing is left.
func (s *server) proceed(t *testing.T, job *api.TrainingJob) bool {
	t.Helper()
	var pods v1.PodList
	if err := s.plain.List(t.Context(), &pods); err != nil {
		t.Fatal(err)
	}
	attempt, changed := fmt.Sprint(job.Status.Attempt), false
	set := func(p *v1.Pod, phase v1.PodPhase, state v1.ContainerState) {
		if p.Spec.NodeName == "" {
			p.Spec.NodeName = "a"
			if err := s.plain.Update(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		p.Status.Phase, p.Status.PodIP = phase, "10.0.0.1"
		p.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "main", State: state}}
		if err := s.plain.Status().Update(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		changed = true
	}
	over := func(code int32, facts rank.Facts) v1.ContainerState {
		facts.At = int64(code) + 1
		return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: code, Message: string(facts.Text()), FinishedAt: metav1.Unix(1_700_000_000, 0)}}
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		running := p.Status.Phase == v1.PodRunning
		switch {
		case p.DeletionTimestamp != nil && (running || p.Status.Phase == ""):
			set(p, v1.PodFailed, over(143, rank.Facts{Code: 143, Stopped: true}))
		case p.Labels[names.Attempt] != attempt:
		case p.Status.Phase == "":
			set(p, v1.PodRunning, v1.ContainerState{Running: &v1.ContainerStateRunning{}})
		case running && job.Status.Phase == api.Running && attempt == "2":
			set(p, v1.PodSucceeded, over(0, rank.Facts{Committed: 9}))
		case running && job.Status.Phase == api.Running && p.Labels[names.Member] == "1":
			set(p, v1.PodFailed, over(7, rank.Facts{Code: 7, Committed: 4}))
		}
	}
	if !changed && isOver(job.Status.Phase) && job.DeletionTimestamp == nil {
		changed = true
		if err := s.plain.Delete(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	return changed
}

// outcome is what became of a job, without the times.
type outcome struct {
	Status  api.JobStatus
	Created map[string]int
	Pods    map[string]v1.Pod
}

func (s *server) outcome(t *testing.T, job *api.TrainingJob) outcome {
	t.Helper()
	out := outcome{job.DeepCopy().Status, s.created, map[string]v1.Pod{}}
	out.Status.StartTime, out.Status.CompletionTime = nil, nil
	for i := range out.Status.Incidents {
		out.Status.Incidents[i].Time = metav1.MicroTime{}
	}
	for i := range out.Status.Conditions {
		out.Status.Conditions[i].LastTransitionTime = metav1.Time{}
	}
	var pods v1.PodList
	if err := s.plain.List(t.Context(), &pods); err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		p.ResourceVersion = ""
		out.Pods[p.Name] = p
	}
	return out
}

// lives lets a job of two members begin, lose its second member, complete in its second attempt and be deleted, while a write fails.
func lives(t *testing.T, c *core.Core, failing int, made bool) (outcome, *server) {
	t.Helper()
	key := types.NamespacedName{Namespace: "n", Name: "digits"}
	object := &api.TrainingJob{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace, UID: "6f2b8f0e-3c57-4b0e-9c1a-2f4f5c1f9d10"}}
	// In the order in which the fake client writes fields.
	object.Spec.Raw = []byte(`{"roles":[{"command":["true"],"cpu":"10m","image":"i","members":2,"memory":"32Mi","name":"trainer","vgpu":{"memory":"1Gi"}}]}`)
	spec := string(object.Spec.Raw)
	s := serverOf(t, object, &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	s.failing, s.made = failing, made
	r := &Jobs{Client: s, Live: s, Core: c, Events: &events.FakeRecorder{}, Images: Images{Rank: "r"}, Asker: newAsker(s)}
	var before outcome
	for range 500 {
		writes := s.writes
		result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
		if err != nil && !errors.Is(err, errLost) {
			t.Fatal(err)
		}
		job := &api.TrainingJob{}
		if err := s.plain.Get(t.Context(), key, job); apierrors.IsNotFound(err) {
			return before, s
		} else if err != nil {
			t.Fatal(err)
		}
		if string(job.Spec.Raw) != spec || job.Generation != object.Generation {
			t.Fatalf("the spec was changed: %s", job.Spec.Raw)
		}
		if err != nil || s.writes != writes || result.RequeueAfter > 0 && result.RequeueAfter < soon {
			continue // it is not done with what it sees
		}
		before = s.outcome(t, job)
		if !s.proceed(t, job) {
			t.Fatalf("nothing goes on: %+v", job.Status)
		}
	}
	t.Fatal("it does not end")
	return before, s
}

// TestAWriteThatFailsChangesNothingInTheEnd: whichever write of a job's life fails, and whether it was made all the same, the job has
// the same pods, each made once, the same attempts and incidents; and nothing but its children and its status is written.
func TestAWriteThatFailsChangesNothingInTheEnd(t *testing.T) {
	c := library(t)
	want, s := lives(t, c, 0, false)
	if st := want.Status; st.Phase != api.Complete || st.Attempt != 2 || len(st.Incidents) != 1 || st.Incidents[0].Code != 7 || len(want.Created) != 4 || len(want.Pods) == 0 {
		t.Fatalf("%+v", want)
	}
	writes, runs := s.writes, 0
	for failing := 1; failing <= writes; failing++ {
		for _, made := range []bool{false, true} {
			got, s := lives(t, c, failing, made)
			if s.writes < max(failing, writes) {
				t.Errorf("write %d, made %v: only %d writes", failing, made, s.writes)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("write %d fails, made %v:\n%+v\nnot\n%+v", failing, made, got, want)
			}
			if len(s.wrong) > 0 {
				t.Errorf("write %d fails, made %v: the controller wrote %v", failing, made, s.wrong)
			}
			runs++
		}
	}
	if t.Failed() {
		return
	}
	fmt.Printf("%d writes of a job's life, each failed once before and once after it was made: %d runs ended alike\n", writes, runs)
}
