package core

import (
	"fmt"
	"testing"
	"time"
	"unsafe"
)

// BenchmarkGang places, holds and releases gangs on 1,000 nodes, and says what of the time goes where: into the library, into
// the crossings between Go and C, and into laying requests out for C and reading plans back. `tests/bench kubernetes` prints it.
func BenchmarkGang(b *testing.B) {
	for _, size := range []uint32{8, 64, 512} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkGang(b, size) })
	}
}

func benchmarkGang(b *testing.B, size uint32) {
	c, err := Open("", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const nodes = 1000
	list := make([]Node, nodes)
	for i := range list {
		list[i] = Node{Name: fmt.Sprintf("node-%04d", i), CPUMilli: 64000, MemoryMiB: 65536,
			GPUs: []GPU{{UUID: fmt.Sprintf("SIM-%d", i), Model: "simulated", MemoryMiB: 81920, Simulated: true}}}
	}
	if err := c.SetNodes(list); err != nil {
		b.Fatal(err)
	}
	r := &Request{Gang: ID{1, 1}, Roles: []Role{{Name: "worker", Members: size, MinMembers: size, RanksPerMember: 1, Kind: VGPU, Devices: 1,
		VGPUMemoryMiB: 10240, CPUMilli: 10, MemoryMiB: 1}}}
	now := time.Unix(1, 0)
	var whole, library, layout time.Duration
	for b.Loop() {
		since := time.Now()
		plan, err := c.Plan(r, now)
		if err == nil {
			err = c.Reserve(r, plan, Terms{Now: now})
		}
		if err == nil {
			err = c.Release(r.Gang)
		}
		whole += time.Since(since)
		if err != nil {
			b.Fatal(err)
		}
		// The same again, in pieces.
		var a arena
		since = time.Now()
		request, given := a.request(r), a.plan(plan)
		layout += time.Since(since)
		since = time.Now()
		answer, err := c.plan(&a, request, roomFor(r), now)
		if err == nil {
			err = c.reserve(request, given, Terms{Now: now})
		}
		if err == nil {
			err = c.Release(r.Gang)
		}
		library += time.Since(since)
		if err != nil {
			b.Fatal(err)
		}
		since = time.Now()
		planOf(answer)
		layout += time.Since(since)
		a.release()
	}
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	const calls = 3 // plan, reserve, release
	crossing := calls * float64(nanosecondsOfACrossing()) / 1000
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(per(whole), "us/gang")
	b.ReportMetric(per(library)-crossing, "core-us/gang")
	b.ReportMetric(crossing, "cgo-us/gang")
	b.ReportMetric(per(layout), "marshalling-us/gang")
}

// nanosecondsOfACrossing is what a call from Go into C costs that does nothing: free(NULL).
func nanosecondsOfACrossing() int64 {
	const times = 100000
	nothing := arena{blocks: make([]unsafe.Pointer, times)}
	since := time.Now()
	nothing.release()
	return time.Since(since).Nanoseconds() / times
}
