package core

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func opened(t testing.TB) *Core {
	t.Helper()
	if os.Getenv("THOLE_LIBRARY") == "" {
		t.Skip("needs library: THOLE_LIBRARY, the path of libthole.so.0")
	}
	c, err := Open("", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func card(uuid string) GPU {
	return GPU{UUID: uuid, Model: "M", MemoryMiB: 8192, ContextMiB: 512, Simulated: true}
}

func vgpus(gang uint64, members uint32, mib uint64) *Request {
	return &Request{Gang: ID{1, gang}, Roles: []Role{{Name: "worker", Members: members, Kind: VGPU, Devices: 1, VGPUMemoryMiB: mib}}}
}

func reason(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return fmt.Sprint(err)
}

func TestAGangsWholeLife(t *testing.T) {
	c := opened(t)
	if err := c.SetLevels([]string{"rack"}); err != nil {
		t.Fatal(err)
	}
	nodes := []Node{{Name: "a", Domains: []string{"r"}, CPUMilli: 4000, MemoryMiB: 4096, GPUs: []GPU{card("SIM-a0"), card("SIM-a1")}},
		{Name: "b", Domains: []string{"r"}, CPUMilli: 4000, MemoryMiB: 4096, Labels: []string{"ssd"}, GPUs: []GPU{card("SIM-b0")}}}
	if err := c.SetNodes(nodes); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	request := vgpus(1, 3, 5120)
	plan, err := c.Plan(request, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Placements) != 3 || plan.Ranks != 3 || len(plan.Placements[0].Grants) != 1 {
		t.Fatalf("%+v", plan)
	}
	if err := c.Reserve(request, plan, Terms{Now: now, Expires: now.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Plan(vgpus(2, 1, 5120), now)
	if reason(err) != "GangNoFitInCluster" || !strings.Contains(err.Error(), "2.0 GiB") {
		t.Errorf("a fourth: %v", err)
	}
	if err := c.Confirm(request.Gang, now); err != nil {
		t.Fatal(err)
	}
	m := plan.Placements[2]
	given, err := c.Assign(&Member{request.Gang, 3, 1, "worker", m})
	if err != nil || given.Environment["CUDA_VISIBLE_DEVICES"] != "" || !strings.Contains(given.Record, m.Grants[0].UUID+" vgpu 5120 0 simulated") {
		t.Errorf("%v %v", given, err)
	}
	// Member 1 has died: what is left is adopted, and its place is free.
	plan.Placements = append(plan.Placements[:1:1], plan.Placements[2])
	if err := c.Reserve(request, plan, Terms{Now: now, Adopt: true}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.Plan(vgpus(2, 1, 5120), now); err != nil {
		t.Error(err)
	}
	labelled := vgpus(3, 1, 512)
	labelled.Roles[0].Label = "ssd"
	if p, err := c.Plan(labelled, now); err != nil || p.Placements[0].Node != "b" {
		t.Errorf("%v %v", p, err)
	}
	if err := c.Release(request.Gang); err != nil {
		t.Fatal(err)
	}
	use, _, err := c.Usage(now)
	if err != nil || len(use) != 3 || use[2].FreeMemoryMiB != 8192-512 {
		t.Errorf("%v %v", use, err)
	}
}

func TestErrorsKeepTheirReason(t *testing.T) {
	c := opened(t)
	if err := c.SetNodes([]Node{{Name: ""}}); reason(err) != "NodeBad" {
		t.Error(err)
	}
	d, err := c.ReadDocument("kind: TrainingJob\nmetadata: {nam: x}\n", "kubernetes")
	if err == nil || !slices.ContainsFunc(d.Notes, func(n Note) bool { return n.Error && n.Line == 1 }) || d.JSON != "" {
		t.Errorf("%+v %v", d, err)
	}
	if _, err := c.Decide(nil, Policy{}); reason(err) != "HistoryBad" {
		t.Error(err)
	}
}

func TestDocumentsAndDecisions(t *testing.T) {
	c := opened(t)
	file, err := os.ReadFile("../../../samples/digits/job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.ReadDocument(string(file), "kubernetes")
	if err != nil || d.Name != "digits" {
		t.Fatal(d, err)
	}
	request, err := c.RequestOf(d.JSON, ID{1, 2})
	if err != nil || len(request.Roles) != 1 || request.Roles[0].VGPUMemoryMiB != 10240 || request.Roles[0].Members != 4 {
		t.Errorf("%+v %v", request, err)
	}
	pool, err := os.ReadFile("../../../samples/digits/pool.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.ReadDocument(string(pool), "kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	_, nodes, err := c.NodesOf(p.JSON, "", nil)
	if err != nil || len(nodes) != 1 || len(nodes[0].GPUs) != 2 || !nodes[0].GPUs[0].Simulated {
		t.Errorf("%+v %v", nodes, err)
	}
	decision, err := c.Decide([]Incident{{Kind: Signaled, Code: 9, Attempt: 1, Step: 40}}, Policy{})
	if err != nil || !decision.Restart || decision.Reason != "RestartAfterIncident" {
		t.Errorf("%+v %v", decision, err)
	}
	for _, kind := range []string{"TrainingJob", "NodePool"} {
		if schema, err := c.Schema(kind); err != nil || !strings.Contains(schema, "properties") {
			t.Error(kind, err)
		}
	}
}

func TestSixteenGoroutines(t *testing.T) {
	c := opened(t)
	var cards []GPU
	for i := range 32 {
		cards = append(cards, card(fmt.Sprint("SIM-", i)))
	}
	if err := c.SetLevels(nil); err != nil {
		t.Fatal(err)
	}
	if err := c.SetNodes([]Node{{Name: "a", GPUs: cards}}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	const goroutines, rounds = 16, 200
	for g := range goroutines {
		all.Go(func() {
			for range rounds {
				request := vgpus(uint64(g+1), 2, 7000)
				plan, err := c.Plan(request, time.Now())
				if err == nil {
					err = c.Reserve(request, plan, Terms{Now: time.Now()})
				}
				// Another goroutine may have taken the place since the plan was made.
				if err != nil && reason(err) != "PlanStale" {
					t.Error(err)
				}
				if err := c.Release(request.Gang); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	use, _, _ := c.Usage(time.Now())
	for _, u := range use {
		if u.Holders != 0 {
			t.Errorf("%s is held by %d", u.UUID, u.Holders)
		}
	}
	t.Logf("%d of %d lives", goroutines*rounds, goroutines*rounds)
}

func TestTheLibraryMustBeOurs(t *testing.T) {
	for path, want := range map[string]string{"/nowhere/libthole.so.0": "cannot be loaded", "libc.so.6": "is not Thole's library"} {
		if _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func BenchmarkPlanOfEight(b *testing.B) {
	c := opened(b)
	var nodes []Node
	for i := range 1000 {
		nodes = append(nodes, Node{Name: fmt.Sprint("n", i), GPUs: []GPU{card(fmt.Sprint("SIM-", i))}})
	}
	if err := c.SetNodes(nodes); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Plan(vgpus(1, 8, 5120), time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
