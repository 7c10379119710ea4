// Package rank wraps the command of a rank in its container: it gives the command the environment of
// docs/reference/job-environment.md, hears what its ranks say, and leaves the newest facts where the kubelet reads them.
// Standard library only: it is one static program that is copied into images of every kind.
package rank

import (
	"encoding/json"
	"os"
	"time"
)

// Facts are what is known of a member when its container ends: the container's termination message, as JSON.
type Facts struct {
	At        int64          `json:"at"` // when the command ended or was found to hang, nanoseconds since 1970
	Code      int            `json:"code,omitempty"`
	Signal    int            `json:"signal,omitempty"`
	Step      uint64         `json:"step,omitempty"`      // the newest train step that a rank has told of
	Committed uint64         `json:"committed,omitempty"` // the newest step that is safe in a checkpoint
	Restored  uint64         `json:"restored,omitempty"`
	Failure   *Failure       `json:"failure,omitempty"`
	Result    map[string]any `json:"result,omitempty"`
	NotBegun  string         `json:"notBegun,omitempty"` // why the command was not started
	Hang      string         `json:"hang,omitempty"`     // in what way it hung
	QuietMs   int64          `json:"quietMs,omitempty"`  // since the last sign of life of its quietest rank
	Stopped   bool           `json:"stopped,omitempty"`  // it was asked to stop
}

// Failure is an exception that has left the script.
type Failure struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Place   string `json:"place"`
}

// MostStep is the largest train step that there is (THOLE_MAX_STEP).
const MostStep = 1 << 62

// FactsOf reads a termination message. Any process of the container may have written it: what cannot be read is not there, and
// a step that no status can hold is none.
func FactsOf(message string) Facts {
	var f Facts
	_ = json.Unmarshal([]byte(message), &f)
	for _, step := range []*uint64{&f.Step, &f.Committed, &f.Restored} {
		if *step > MostStep {
			*step = 0
		}
	}
	return f
}

// most is what the kubelet takes of a termination message, in bytes.
const most = 4096

// Text answers the facts as at most 4096 bytes: a failure's message is shortened first, a result goes last.
func (f Facts) Text() []byte {
	text, err := json.Marshal(f)
	if len(text) > most && f.Failure != nil {
		short := *f.Failure
		short.Message = short.Message[:min(len(short.Message), 500)]
		f.Failure = &short
		text, err = json.Marshal(f)
	}
	if err != nil || len(text) > most {
		f.Result, f.Failure = nil, nil
		text, _ = json.Marshal(f)
	}
	return text
}

// write leaves the facts in the file that the kubelet reads when the container has ended, however it ends.
func (f Facts) write(path string) {
	if f.At == 0 {
		f.At = time.Now().UnixNano()
	}
	// In place: the file is a mount, and cannot be renamed over.
	_ = os.WriteFile(path, f.Text(), 0o644)
}
