package rank

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// room prepares a rank's folders, and answers its options and where its facts will be.
func room(t *testing.T, command ...string) (Options, func() Facts) {
	t.Helper()
	d := t.TempDir()
	t.Setenv("THOLE_SOCKET", filepath.Join(d, "socket"))
	t.Setenv("THOLE_KEY", filepath.Join(d, "run", "key"))
	t.Setenv("THOLE_STORE", filepath.Join(d, "store"))
	t.Setenv("THOLE_POD_IP", "10.0.0.7")
	t.Setenv("MASTER_PORT", "29501")
	t.Setenv("MASTER_ADDR", "")
	message := filepath.Join(d, "message")
	return Options{Command: command, Message: message, Grace: 3 * time.Second}, func() Facts {
		t.Helper()
		text, err := os.ReadFile(message)
		if err != nil {
			t.Fatal(err)
		}
		var f Facts
		if err := json.Unmarshal(text, &f); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		return f
	}
}

func TestCodesGoThrough(t *testing.T) {
	for script, want := range map[string][2]int{"exit 0": {0, 0}, "exit 75": {75, 0}, "exit 3": {3, 0}, "kill -9 $$": {137, 9}, "kill -TERM $$": {143, 15}} {
		o, facts := room(t, "sh", "-c", script)
		if code := Run(o); code != want[0] {
			t.Errorf("%s: %d", script, code)
		}
		if f := facts(); f.Code != want[0] || f.Signal != want[1] || f.At == 0 {
			t.Errorf("%s: %+v", script, f)
		}
	}
}

func TestNotBegun(t *testing.T) {
	cases := map[string]func(*Options){
		"not in the image":            func(o *Options) { o.Command = []string{"no-such-program"} },
		"the key cannot be read":      func(o *Options) { o.Key = "/nonexistent" },
		"the working directory":       func(o *Options) { o.Workdir = "/nonexistent" },
		"rank 0 got no address":       func(o *Options) { o.Master, o.StartTimeout = "/nonexistent", 50*time.Millisecond },
		"the store cannot be written": func(*Options) { os.Setenv("THOLE_STORE", "/proc/none") },
	}
	for want, breaks := range cases {
		o, facts := room(t, "true")
		breaks(&o)
		if code := Run(o); code != ExitNotBegun || !strings.Contains(facts().NotBegun, want) {
			t.Errorf("%s: %d, %+v", want, code, facts())
		}
	}
	fmt.Printf("%d of %d reasons\n", len(cases), len(cases))
}

func TestMasterAndKey(t *testing.T) {
	o, _ := room(t, "sh", "-c", `[ "$MASTER_ADDR:$MASTER_PORT" = 10.1.2.3:30000 ] && [ "$(cat "$THOLE_KEY")" = secret ] && [ "$(stat -c %a "$THOLE_KEY")" = 400 ]`)
	o.Key, o.Master = filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "master")
	if err := os.WriteFile(o.Key, []byte("secret"), 0o640); err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		_ = os.WriteFile(o.Master, []byte("10.1.2.3:30000\n"), 0o644)
	}()
	if code := Run(o); code != 0 {
		t.Error(code)
	}
	o.Master = ""
	o.Command = []string{"sh", "-c", `[ "$MASTER_ADDR:$MASTER_PORT" = 10.0.0.7:29501 ]`}
	t.Setenv("MASTER_PORT", "29501")
	t.Setenv("THOLE_SOCKET", filepath.Join(t.TempDir(), "other"))
	if code := Run(o); code != 0 {
		t.Error("rank 0:", code)
	}
}

// speak says lines on the socket as a rank does, once it is there.
func speak(t *testing.T, lines ...string) net.Conn {
	t.Helper()
	for range 200 {
		if c, err := net.Dial("unix", os.Getenv("THOLE_SOCKET")); err == nil {
			for _, line := range lines {
				fmt.Fprintln(c, line)
			}
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("no socket")
	return nil
}

func TestWhatRanksSayIsKept(t *testing.T) {
	done := filepath.Join(t.TempDir(), "done")
	o, facts := room(t, "sh", "-c", "until [ -e "+done+" ]; do sleep 0.02; done; exit 1")
	go func() {
		c := speak(t, `{"hello": {"protocol": 1, "rank": 0}}`, `{"restored": {"step": 20}}`, `{"step": 41}`, `not JSON`, `{"unknown": 1}`,
			`{"checkpoint": {"step": 40, "committed": true}}`, `{"checkpoint": {"step": 60, "committed": false}}`, `{"result": {"digest": "5eed"}}`,
			`{"failure": {"type": "ValueError", "message": "`+strings.Repeat("x", 9000)+`", "place": "train.py:41"}}`)
		for range 200 {
			if f := readFacts(o.Message); f.Failure != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		_ = os.WriteFile(done, nil, 0o600)
		c.Close()
	}()
	if code := Run(o); code != 1 {
		t.Error(code)
	}
	f := facts()
	if f.Restored != 20 || f.Step != 41 || f.Committed != 40 || f.Result["digest"] != "5eed" || f.Failure == nil || f.Failure.Place != "train.py:41" {
		t.Errorf("%+v", f)
	}
	if text, _ := os.ReadFile(o.Message); len(text) > 4096 {
		t.Error(len(text), "bytes")
	}
}

func readFacts(path string) (f Facts) {
	text, _ := os.ReadFile(path)
	_ = json.Unmarshal(text, &f)
	return f
}

func TestHangs(t *testing.T) {
	cases := []struct {
		want  string
		lines []string
		alive bool
	}{
		{"no sign of life", []string{`{"hello": {"protocol": 1}}`, `{"step": 1}`}, false},
		{"no train step", []string{`{"hello": {"protocol": 1}}`, `{"step": 1}`}, true},
		{"no first train step", []string{`{"hello": {"protocol": 1}}`}, true},
	}
	for _, c := range cases {
		o, facts := room(t, "sleep", "60")
		o.HangTimeout, o.StartTimeout = 400*time.Millisecond, 800*time.Millisecond
		stop := make(chan bool)
		go func() {
			connection := speak(t, c.lines...)
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					if c.alive {
						fmt.Fprintln(connection, `{"alive": true}`)
					}
				}
			}
		}()
		if code := Run(o); code != ExitHang || !strings.Contains(facts().Hang, c.want) {
			t.Errorf("%s: %d, %+v", c.want, code, facts())
		}
		close(stop)
	}
	fmt.Printf("%d of %d hangs\n", len(cases), len(cases))
}

func TestARankThatNeverConnectsIsLeftAlone(t *testing.T) {
	o, _ := room(t, "sleep", "1")
	o.HangTimeout, o.StartTimeout = 100*time.Millisecond, 100*time.Millisecond
	if code := Run(o); code != 0 {
		t.Error(code)
	}
}

func TestStopReachesTheSocketAndTheProcess(t *testing.T) {
	o, facts := room(t, "sh", "-c", "trap 'exit 75' TERM; while :; do sleep 0.02; done")
	said := make(chan string, 1)
	go func() {
		c := speak(t, `{"hello": {"protocol": 1}}`)
		time.Sleep(50 * time.Millisecond)
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		line := make([]byte, 200)
		n, _ := c.Read(line)
		said <- string(line[:n])
	}()
	if code := Run(o); code != 75 || !facts().Stopped {
		t.Errorf("%d, %+v", code, facts())
	}
	if line := <-said; line != "{\"stop\":{\"grace\":3,\"reason\":\"platform\"}}\n" {
		t.Error(line)
	}
}
