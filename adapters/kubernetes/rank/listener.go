package rank

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"
)

const longestLine = 64 << 10

// heard is what the ranks of this container have said on the socket (protocol 1).
type heard struct {
	mu    sync.Mutex
	facts Facts
	ranks map[net.Conn]*oneRank
	saved func(Facts) // called, outside the lock, when a fact is new that must not be lost
}

// oneRank is a connection.
type oneRank struct {
	greeted  bool
	begun    time.Time
	alive    time.Time // the last line of any kind
	advanced time.Time // the last line that shows progress
	stepped  bool
}

type line struct {
	Hello      *struct{ Protocol int }
	Step       *uint64
	Sealing    *struct{}
	Checkpoint *struct {
		Step      uint64
		Committed bool
	}
	Restored *struct{ Step uint64 }
	Result   map[string]any
	Failure  *Failure
}

func (l *line) isOverBound() bool {
	return l.Step != nil && *l.Step > MostStep || l.Checkpoint != nil && l.Checkpoint.Step > MostStep || l.Restored != nil && l.Restored.Step > MostStep
}

func (h *heard) listen(path string) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go h.follow(connection)
		}
	}()
	return nil
}

func (h *heard) follow(connection net.Conn) {
	now := time.Now()
	rank := &oneRank{begun: now, alive: now, advanced: now}
	h.locked(func() { h.ranks[connection] = rank })
	lines := bufio.NewScanner(connection)
	lines.Buffer(make([]byte, 4096), longestLine)
	for lines.Scan() {
		var said line
		if err := json.Unmarshal(lines.Bytes(), &said); err != nil {
			continue // what cannot be read is skipped, as keys that are not known are
		}
		h.take(rank, said)
	}
	h.locked(func() { delete(h.ranks, connection) })
	connection.Close()
}

func (h *heard) take(rank *oneRank, said line) {
	h.mu.Lock()
	now := time.Now()
	rank.alive = now
	news := false
	switch f := &h.facts; {
	case said.Hello != nil:
		rank.greeted = true
	case said.isOverBound(): // no step is so large; to keep it would spoil what is known
	case said.Step != nil:
		rank.stepped, rank.advanced = true, now
		f.Step = max(f.Step, *said.Step)
	case said.Checkpoint != nil:
		rank.advanced = now
		if said.Checkpoint.Committed {
			news = said.Checkpoint.Step > f.Committed
			f.Committed = max(f.Committed, said.Checkpoint.Step)
		}
	case said.Restored != nil:
		rank.advanced = now
		f.Restored, f.Committed = said.Restored.Step, max(f.Committed, said.Restored.Step)
		news = true
	case said.Sealing != nil:
		rank.advanced = now
	case said.Result != nil:
		if f.Result == nil {
			f.Result = map[string]any{}
		}
		maps.Copy(f.Result, said.Result)
		news = true
	case said.Failure != nil:
		f.Failure, news = said.Failure, true
	}
	snapshot := h.facts
	snapshot.Result = maps.Clone(snapshot.Result)
	h.mu.Unlock()
	if news {
		h.saved(snapshot)
	}
}

func (h *heard) locked(what func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what()
}

// now answers the facts, with how long the quietest rank has said nothing.
func (h *heard) now() Facts {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.facts
	out.Result = maps.Clone(out.Result)
	for _, r := range h.ranks {
		if r.greeted {
			out.QuietMs = max(out.QuietMs, time.Since(r.alive).Milliseconds())
		}
	}
	return out
}

// hang answers in what way a rank hangs, or nothing. Of a rank that has not connected nothing is known.
func (h *heard) hang(hangTimeout, startTimeout time.Duration) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.ranks {
		switch {
		case !r.greeted:
		case hangTimeout > 0 && time.Since(r.alive) > hangTimeout:
			return fmt.Sprintf("no sign of life for %v", hangTimeout)
		case r.stepped && hangTimeout > 0 && time.Since(r.advanced) > hangTimeout:
			return fmt.Sprintf("no train step for %v", hangTimeout)
		case !r.stepped && startTimeout > 0 && time.Since(r.begun) > startTimeout:
			return fmt.Sprintf("no first train step within %v", startTimeout)
		}
	}
	return ""
}

// stop asks every rank to save and to leave within the grace time.
func (h *heard) stop(reason string, grace time.Duration) {
	text, _ := json.Marshal(map[string]any{"stop": map[string]any{"reason": reason, "grace": grace.Seconds()}})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts.Stopped = true
	for connection := range h.ranks {
		_ = connection.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = connection.Write(append(text, '\n'))
	}
}
