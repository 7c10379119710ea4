package rank

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Progress is what the container of rank 0 tells whoever connects to it: one line of JSON.
type Progress struct {
	Run       string `json:"run"`
	Attempt   int64  `json:"attempt"`
	Step      uint64 `json:"step"`      // train steps that are done
	Committed uint64 `json:"committed"` // the newest step that is safe in a checkpoint
}

// MostProgress is the longest such line, in bytes.
const MostProgress = 512

// teller tells the progress. It reads nothing from the network: whoever connects gets the line, and the connection is closed.
// One at a time, so that many who connect cost no more than one.
type teller struct {
	heard   *heard
	store   *committedSteps
	run     string
	attempt int64
}

// tell listens on an address; without one, or when it cannot, nobody hears of the progress, and the rank runs all the same.
func tell(address string, h *heard) {
	if address == "" {
		return
	}
	attempt, _ := strconv.ParseInt(os.Getenv("THOLE_ATTEMPT"), 10, 64)
	t := &teller{h, stepsOf(os.Getenv("THOLE_STORE"), os.Getenv("THOLE_RUN"), attempt), os.Getenv("THOLE_RUN"), attempt}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintf(os.Stderr, "thole-rank: nobody will hear how far this job is while it runs: %v\n", err)
		return
	}
	go t.serve(listener)
}

func (t *teller) serve(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // too many files are open: by and by there are fewer
			continue
		}
		// It fits into what the kernel keeps for a new connection, so this does not wait for the other side.
		_ = connection.SetDeadline(time.Now().Add(time.Second))
		_, _ = connection.Write(append(t.line(), '\n'))
		connection.Close()
	}
}

func (t *teller) line() []byte {
	f := t.heard.now()
	text, _ := json.Marshal(Progress{t.run, t.attempt, f.Step, max(f.Committed, t.store.newest())})
	return text
}

// committedSteps are those of this attempt in the store, by names alone: this container hears what its own ranks say, and
// the one that commits a checkpoint may be any. A checkpoint's name follows from run, attempt and step
// (docs/reference/checkpoint-format.md), so that of what an older attempt has left nothing is taken for this one's.
type committedSteps struct {
	folder  string // of the run
	run     []byte
	attempt int64
	found   atomic.Uint64
	looking atomic.Bool
	looked  atomic.Int64 // when it last did, as time.Duration since begun
	begun   time.Time
}

func stepsOf(store, run string, attempt int64) *committedSteps {
	id, err := hex.DecodeString(strings.ReplaceAll(run, "-", ""))
	if store == "" || err != nil || len(id) != 16 {
		return nil
	}
	return &committedSteps{folder: filepath.Join(store, run), run: id, attempt: attempt, begun: time.Now()}
}

// newest answers what was found last, and looks again meanwhile, once a second at most: a store may hang, and nobody waits for it.
func (c *committedSteps) newest() uint64 {
	if c == nil {
		return 0
	}
	since := time.Since(c.begun)
	if since-time.Duration(c.looked.Load()) > time.Second && c.looking.CompareAndSwap(false, true) {
		c.looked.Store(int64(since))
		go func() {
			c.look()
			c.looking.Store(false)
		}()
	}
	return c.found.Load()
}

func (c *committedSteps) look() {
	entries, err := os.ReadDir(c.folder)
	if err != nil {
		return
	}
	for _, e := range slices.Backward(entries) { // names have twenty digits: their order is that of steps
		digits, is := strings.CutPrefix(e.Name(), "step-")
		step, err := strconv.ParseUint(digits, 10, 63)
		if !is || err != nil {
			continue
		}
		if step <= c.found.Load() {
			return
		}
		if _, err := os.Lstat(filepath.Join(c.folder, e.Name(), c.checkpoint(step), "MANIFEST.thole")); err == nil {
			c.found.Store(step)
			return
		}
	}
}

// checkpoint answers the id of this attempt's checkpoint of a step, as a UUID.
func (c *committedSteps) checkpoint(step uint64) string {
	digest := sha256.New()
	for _, part := range []string{"thole.ckpt/v1 id", string(c.run), strconv.FormatInt(c.attempt, 10), strconv.FormatUint(step, 10)} {
		_ = binary.Write(digest, binary.LittleEndian, uint64(len(part)))
		digest.Write([]byte(part))
	}
	id := digest.Sum(nil)[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
