package rank

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const testRun = "6f2b8f0e-3c57-4b0e-9c1a-2f4f5c1f9d10"

// ask reads what a teller says, to its end.
func ask(t *testing.T, address string) Progress {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	text, err := io.ReadAll(connection)
	if err != nil {
		t.Fatal(err)
	}
	var p Progress
	if err := json.Unmarshal(text, &p); err != nil || len(text) > MostProgress {
		t.Fatalf("%v: %d bytes: %s", err, len(text), text)
	}
	return p
}

func told(t *testing.T, h *heard) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	teller := &teller{h, stepsOf(os.Getenv("THOLE_STORE"), testRun, 2), testRun, 2}
	go teller.serve(listener)
	return listener.Addr().String()
}

func quietOnes() *heard { return &heard{ranks: map[net.Conn]*oneRank{}, saved: func(Facts) {}} }

func TestProgressIsToldWhileTheRankRuns(t *testing.T) {
	o, _ := room(t, "python3", "-c", `
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["THOLE_SOCKET"])
s.sendall(b'{"hello": {"protocol": 1}}\n{"restored": {"step": 40}}\n{"step": 57}\n')
until = time.monotonic() + 20
while not os.path.exists(sys.argv[1]) and time.monotonic() < until:
    time.sleep(0.01)
`)
	end := filepath.Join(t.TempDir(), "end")
	o.Command = append(o.Command, end)
	t.Setenv("THOLE_RUN", testRun)
	t.Setenv("THOLE_ATTEMPT", "2")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Progress = free.Addr().String()
	free.Close()
	code := make(chan int, 1)
	go func() { code <- Run(o) }()
	want := Progress{testRun, 2, 57, 40}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if connection, err := net.Dial("tcp", o.Progress); err == nil {
			connection.Close()
			if ask(t, o.Progress) == want {
				break
			}
		}
		if time.Now().After(until) {
			t.Fatal("the progress was not told")
		}
	}
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != 0 {
		t.Error(got)
	}
}

func TestARankRunsWhoseProgressCannotBeTold(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o, _ := room(t, "true")
	o.Progress = taken.Addr().String()
	if code := Run(o); code != 0 {
		t.Error(code)
	}
}

func TestManyWhoConnectAndSayNothingKeepNobodyAway(t *testing.T) {
	t.Setenv("THOLE_STORE", "")
	address := told(t, quietOnes())
	for range 200 {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close() // not read, and what it sends is not read either
		_, _ = connection.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	}
	since := time.Now()
	if p := ask(t, address); p.Run != testRun || time.Since(since) > 5*time.Second {
		t.Error(p, time.Since(since))
	}
}

// commit makes the names that a committed checkpoint has.
func commit(t *testing.T, store string, attempt int64, step string, n uint64) {
	t.Helper()
	folder := filepath.Join(store, testRun, "step-"+step, stepsOf(store, testRun, attempt).checkpoint(n))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "MANIFEST.thole"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheNewestOfThisAttemptIsFoundByNames(t *testing.T) {
	store := t.TempDir()
	c := stepsOf(store, testRun, 2)
	c.look()
	commit(t, store, 1, "00000000000000000090", 90) // by an older attempt, after this one had begun
	commit(t, store, 2, "00000000000000000060", 60)
	if err := os.MkdirAll(filepath.Join(store, testRun, "step-00000000000000000080", c.checkpoint(80)), 0o700); err != nil { // not committed
		t.Fatal(err)
	}
	for _, odd := range []string{"step-", "step-x", "step-99999999999999999999", "fence-00000000000000000002.thole", "zzz"} {
		if err := os.MkdirAll(filepath.Join(store, testRun, odd), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if c.look(); c.found.Load() != 60 {
		t.Error(c.found.Load())
	}
	commit(t, store, 2, "00000000000000000080", 80)
	if c.look(); c.found.Load() != 80 {
		t.Error(c.found.Load())
	}
	// What the library has made of attempts 2 and 7 of this run.
	for _, made := range []struct {
		attempt int64
		step    uint64
		id      string
	}{{2, 60, "47b30477-1d84-89c1-abb9-88ec6a49a2f7"}, {7, 1000, "2a5ce522-e6be-8936-a985-938258da2760"}, {7, 1001, "2d89899c-9718-868e-90be-d5608f387316"}} {
		if id := stepsOf(store, testRun, made.attempt).checkpoint(made.step); id != made.id {
			t.Error(id, made)
		}
	}
	if stepsOf("", testRun, 1).newest() != 0 || stepsOf(store, "no id", 1).newest() != 0 {
		t.Error("without a store there is no checkpoint")
	}
}

func TestNumbersThatNoStatusHoldsAreNotTakenOver(t *testing.T) {
	h := quietOnes()
	one, other := net.Pipe()
	go h.follow(one)
	lines := `{"hello": {"protocol": 1}}
{"step": 18446744073709551615}
{"step": 99999999999999999999999}
{"step": -1}
{"checkpoint": {"step": 4611686018427387905, "committed": true}}
{"restored": {"step": 9223372036854775808}}
{"step": 4611686018427387904}
`
	w := bufio.NewWriter(other)
	_, _ = w.WriteString(lines)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	other.Close()
	for until := time.Now().Add(5 * time.Second); h.now().Step == 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if f := h.now(); f.Step != MostStep || f.Committed != 0 || f.Restored != 0 {
		t.Errorf("%+v", f)
	}
	f := FactsOf(`{"at": 5, "code": 3, "step": 18446744073709551615, "committed": 4611686018427387905, "restored": 1e30, "failure": 7}`)
	if f.At != 5 || f.Code != 3 || f.Step != 0 || f.Committed != 0 || f.Restored != 0 {
		t.Errorf("%+v", f)
	}
	if f := FactsOf("Segmentation fault"); f.At != 0 {
		t.Errorf("%+v", f)
	}
}
