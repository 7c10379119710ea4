package scheduler

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

func journalOf(t *testing.T, folder string, now time.Time) *journal {
	t.Helper()
	j, err := openJournal(folder, "", nil, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.once.Do(func() { close(j.ended) }) })
	return j
}

func TestAJournalIsOfOneProcessAndOldOnesGo(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "journal[1]") // no pattern
	if j, err := openJournal("", "", nil, time.Now()); j != nil || err != nil {
		t.Fatal("without a folder there is none:", j, err)
	}
	begun := time.Unix(1_700_000_000, 0)
	// Of a process that has ended, older than all: the first to go. This process owns every run that it makes itself.
	ended, fresh := filepath.Join(folder, "run-20200101T000000.000000000Z-1"), filepath.Join(folder, "run-20200101T000001.000000000Z-1")
	for _, run := range []string{ended, fresh} {
		if err := os.MkdirAll(run, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(ended, names.JournalFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	made := []string{fresh}
	for i := range keptJournals + 1 {
		made = append(made, journalOf(t, folder, begun.Add(time.Duration(i)*time.Second)).run)
		_, err := os.Stat(ended)
		if stays := i+2 <= keptJournals; stays != (err == nil) {
			t.Fatalf("%d runs: the oldest, which has ended: %v", i+2, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(folder), "*", "run-*"))
	slices.Sort(left)
	if err != nil || !slices.Equal(left, made) {
		t.Fatalf("runs that are written to, or are just being made, were removed: %v of %v", left, made)
	}
	for _, run := range made {
		if st, err := os.Stat(run); err != nil || st.Mode().Perm() != 0o700 {
			t.Fatal(run, st.Mode(), err)
		}
	}
}

func TestARunThatCannotBeginLeavesNothing(t *testing.T) {
	folder := t.TempDir()
	for what, begin := range map[string]func() (*journal, error){
		"a file":          func() (*journal, error) { return openJournal("/proc/version", "", nil, time.Now()) },
		"another library": func() (*journal, error) { return openJournal(folder, "/no/such", nil, time.Now()) },
		"bad levels":      func() (*journal, error) { return openJournal(folder, "", []string{"node"}, time.Now()) },
	} {
		if j, err := begin(); err == nil {
			t.Fatal(what, "is taken for a folder of journals:", j.run)
		}
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
}

// held waits until another process that reads the journal sees so many gangs.
func held(t *testing.T, run string, gangs int) []*core.Plan {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := core.OpenJournal("", run, nil)
		if err != nil {
			t.Fatal(err)
		}
		found, err := c.Gangs(time.Now())
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil || len(found) == gangs {
			return found
		}
		if time.Now().After(until) {
			t.Fatalf("%d gangs are in the journal, not %d", len(found), gangs)
		}
	}
}

func TestTheJournalSaysWhatTheLedgerHolds(t *testing.T) {
	j := journalOf(t, t.TempDir(), time.Now())
	b := bookOn(t, &ledger{Core: bookOf(t, time.Minute).core.Core, journal: j}, time.Minute)
	for i := range 2 {
		b.follow(member("g", i), true)
	}
	if _, _, err := b.place(member("g", 0)); err != nil {
		t.Fatal(err)
	}
	found := held(t, j.run, 1)
	if len(found) != 1 || len(found[0].Placements) != 2 || found[0].Confirmed {
		t.Fatal(found)
	}
	for i, p := range found[0].Placements {
		s := b.seats[member("g", i).UID]
		if p.Node != s.placement.Node || p.Grants[0].UUID != s.placement.Grants[0].UUID || found[0].Gang != s.batch.id {
			t.Fatal(p, s.placement)
		}
	}
	for i := range 2 {
		b.gone(member("g", i))
	}
	held(t, j.run, 0)
}

func TestAJournalThatCannotBeWrittenEndsAlone(t *testing.T) {
	j := journalOf(t, t.TempDir(), time.Now())
	b := bookOn(t, &ledger{Core: bookOf(t, time.Minute).core.Core, journal: j}, time.Minute)
	if err := os.Remove(filepath.Join(j.run, names.JournalFile)); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		b.follow(member("g", i), true)
	}
	if _, _, err := b.place(member("g", 0)); err != nil {
		t.Fatal("placing ended with its journal:", err)
	}
	select {
	case <-j.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the journal goes on")
	}
	for i := range 2 {
		b.gone(member("g", i))
	}
	if node, _, err := b.place(member("h", 0)); err == nil || node != "" {
		t.Fatal("one member of two was placed")
	}
	b.follow(member("h", 1), true)
	if _, _, err := b.place(member("h", 0)); err != nil {
		t.Fatal("what is released after the journal's end is not free:", err)
	}
}

func TestAJournalThatFallsBehindEnds(t *testing.T) {
	j := &journal{run: t.TempDir(), changes: make(chan func(*core.Core) error, 1), ended: make(chan struct{})}
	for range 3 {
		j.add(func(*core.Core) error { return nil })
	}
	text, err := os.ReadFile(filepath.Join(j.run, names.JournalEnded))
	if err != nil || !strings.Contains(string(text), "1 changes wait for the disk") {
		t.Fatal(string(text), err)
	}
}

// What the ledger is told is what has changed: one reservation for a gang, whatever the number of its members, and nothing when they are looked up.
func TestAGangIsOneChangeOfTheLedger(t *testing.T) {
	j := &journal{run: t.TempDir(), changes: make(chan func(*core.Core) error, 16), ended: make(chan struct{})}
	b := bookOn(t, &ledger{Core: bookOf(t, time.Minute).core.Core, journal: j}, time.Minute)
	told := func(what string, want int) {
		t.Helper()
		if got := len(j.changes); got != want {
			t.Fatalf("%s: the ledger was told %d times, not %d", what, got, want)
		}
		for range want {
			<-j.changes
		}
	}
	told("a node came", 1)
	for i := range 2 {
		b.follow(member("g", i), true)
	}
	told("pods came", 0)
	if _, _, err := b.place(member("g", 0)); err != nil {
		t.Fatal(err)
	}
	told("the first member was placed", 2) // which nodes are admitted, once; and the gang
	if _, _, err := b.place(member("g", 1)); err != nil {
		t.Fatal(err)
	}
	told("the second member was looked up", 0)
	for i := range 2 {
		b.follow(member("h", i), true)
	}
	if _, _, err := b.place(member("h", 0)); err == nil {
		t.Fatal("there is no room")
	}
	told("another gang does not fit", 0)
}
