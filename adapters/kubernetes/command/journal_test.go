package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// written is the folder of a journal in which one gang of two members was placed and confirmed.
func written(t *testing.T) (folder string, plan *core.Plan) {
	t.Helper()
	folder = t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := core.OpenJournal("", folder, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	now := time.Now()
	request := core.Request{Gang: core.ID{Hi: 1, Lo: 2}, Roles: []core.Role{{Name: "worker", Members: 2, MinMembers: 2, RanksPerMember: 1,
		Kind: core.VGPU, Devices: 1, VGPUMemoryMiB: 1024, ShareMilli: 250, CPUMilli: 1, MemoryMiB: 1}}}
	err = c.SetNodes([]core.Node{{Name: "a", CPUMilli: 1000, MemoryMiB: 1024, GPUs: []core.GPU{{UUID: "SIM-0", Model: "simulated", MemoryMiB: 8192, Simulated: true}}}})
	if err == nil {
		plan, err = c.Plan(&request, now)
	}
	if err == nil {
		err = c.Reserve(&request, plan, core.Terms{Now: now})
	}
	if err == nil {
		err = c.Confirm(request.Gang, now)
	}
	if err != nil {
		t.Fatal(err)
	}
	return folder, plan
}

func TestAJournalIsReplayed(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	folder, plan := written(t)
	var out bytes.Buffer
	s := &session{out: &out, progress: &bytes.Buffer{}, asJSON: true}
	if err := s.journal(folder); err != nil {
		t.Fatal(err)
	}
	var said struct {
		Revision uint64
		Gangs    []journalGang
	}
	if err := json.Unmarshal(out.Bytes(), &said); err != nil {
		t.Fatal(err)
	}
	if len(said.Gangs) != 1 || said.Gangs[0].Gang != "00000000000000010000000000000002" || !said.Gangs[0].Confirmed || len(said.Gangs[0].Members) != 2 || said.Revision != 3 {
		t.Fatal(out.String())
	}
	for i, m := range said.Gangs[0].Members {
		if want := plan.Placements[i]; m.Node != want.Node || m.FirstRank != want.FirstRank || m.Grants[0] != want.Grants[0] {
			t.Fatal(m, want)
		}
	}
	out.Reset()
	s.asJSON = false
	if err := s.journal(folder); err != nil || !strings.Contains(out.String(), "confirmed") || !strings.HasSuffix(out.String(), "1 gangs, after 3 changes\n") {
		t.Fatal(out.String(), err)
	}
}

func TestAJournalThatCannotBeReplayedIsRefused(t *testing.T) {
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	folder, _ := written(t)
	file := filepath.Join(folder, names.JournalFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(text)
	damaged[60] ^= 1 // in the first record
	for want, change := range map[problem]func() error{
		{"FileUnreadable", "", exitMissing}: func() error { return os.Remove(file) },
		{"JournalDamaged", "", exitDamaged}: func() error { return os.WriteFile(file, damaged, 0o600) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		var p *problem
		if err := (&session{out: &bytes.Buffer{}, progress: &bytes.Buffer{}}).journal(folder); !errors.As(err, &p) ||
			p.Reason != want.Reason || p.ExitCode != want.ExitCode || !strings.Contains(p.Message, file) {
			t.Fatalf("%v: %v", want, err)
		}
	}
	// What was never answered, as the writer was killed in the middle of it, is not there.
	if err := os.WriteFile(file, text[:len(text)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, names.JournalEnded), []byte("no space left on device\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, notes bytes.Buffer
	if err := (&session{out: &out, progress: &notes}).journal(folder); err != nil || !strings.HasSuffix(out.String(), "after 2 changes\n") {
		t.Fatal(out.String(), err)
	}
	for _, note := range []string{"unfinished record", "ended before its process: no space left on device\n"} {
		if !strings.Contains(notes.String(), note) {
			t.Fatalf("it is not said that %s: %s", note, notes.String())
		}
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Fatal("copies are left behind:", left, err)
	}
}
