package scheduler

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// ledger is the core that places, and beside it, where one is kept, the journal of what it holds.
type ledger struct {
	*core.Core
	journal *journal
	asked   asked
}

// asked is what a ledger was asked, which is what decisions cost: whole plans, and nodes that it was told of.
type asked struct{ plans, nodes int }

func (l *ledger) Plan(r *core.Request, now time.Time) (*core.Plan, error) {
	l.asked.plans++
	return l.Core.Plan(r, now)
}

func (l *ledger) SetNodes(nodes []core.Node) error {
	l.asked.nodes += len(nodes)
	return l.changed(l.Core.SetNodes(nodes), func(c *core.Core) error { return c.SetNodes(nodes) })
}

func (l *ledger) RemoveNode(name string) error {
	return l.changed(l.Core.RemoveNode(name), func(c *core.Core) error { return c.RemoveNode(name) })
}

func (l *ledger) Reserve(r *core.Request, p *core.Plan, terms core.Terms) error {
	held := *r
	held.Roles = slices.Clone(r.Roles) // a batch's roles grow with the pods that it adopts
	return l.changed(l.Core.Reserve(r, p, terms), func(c *core.Core) error { return c.Reserve(&held, p, terms) })
}

func (l *ledger) Confirm(gang core.ID, now time.Time) error {
	return l.changed(l.Core.Confirm(gang, now), func(c *core.Core) error { return c.Confirm(gang, now) })
}

func (l *ledger) Release(gang core.ID) error {
	return l.changed(l.Core.Release(gang), func(c *core.Core) error { return c.Release(gang) })
}

func (l *ledger) changed(err error, again func(*core.Core) error) error {
	if err == nil && l.journal != nil {
		l.journal.add(again)
	}
	return err
}

const (
	keptJournals = 8
	// What may wait for the disk. A start with 10,000 nodes makes one change for each.
	mostWaiting = 1 << 16
	// A run is the folder of one process. Its names sort as the times at which they began.
	runPrefix, runTime = "run-", "20060102T150405.000000000Z"
)

// journal writes a ledger down as evidence, by a second core that gets the changes of the first in their order. Nothing is
// ever read back, as pods in etcd say what is placed; and as with kube-apiserver's audit log in its batch mode, placing
// neither waits for the disk nor ends with it: a journal that cannot be written any more ends, and says so.
type journal struct {
	run     string
	changes chan func(*core.Core) error
	ended   chan struct{} // closed when it takes no more
	once    sync.Once
}

// openJournal begins a new run in a folder, and removes all but the newest of processes that have ended. Nil without a folder.
func openJournal(folder, library string, levels []string, now time.Time) (*journal, error) {
	if folder == "" {
		return nil, nil
	}
	run := filepath.Join(folder, fmt.Sprintf("%s%s-%d", runPrefix, now.UTC().Format(runTime), os.Getpid()))
	c, err := begin(run, library, levels)
	if err != nil {
		_ = os.RemoveAll(run)
		return nil, fmt.Errorf("the folder for journals: %w", err)
	}
	prune(folder)
	j := &journal{run: run, changes: make(chan func(*core.Core) error, mostWaiting), ended: make(chan struct{})}
	go j.write(c)
	return j, nil
}

func begin(run, library string, levels []string) (*core.Core, error) {
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, err
	}
	// Held until the process ends: two schedulers may share the folder, and neither removes the journal of the other.
	if owner, err := own(run); err != nil {
		return nil, err
	} else if owner < 0 {
		return nil, fmt.Errorf("%s has another owner", run)
	}
	c, err := core.OpenJournal(library, run, nil)
	if err != nil {
		return nil, err
	}
	if err := c.SetLevels(levels); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// add hands a change over; the caller holds the lock under which the ledger was changed.
func (j *journal) add(change func(*core.Core) error) {
	select {
	case <-j.ended:
	case j.changes <- change:
	default:
		j.end(fmt.Errorf("%d changes wait for the disk", cap(j.changes)))
	}
}

func (j *journal) write(c *core.Core) {
	defer c.Close()
	for {
		select {
		case <-j.ended:
			return
		case change := <-j.changes:
			if err := change(c); err != nil {
				j.end(err)
				return
			}
		}
	}
}

func (j *journal) end(why error) {
	j.once.Do(func() {
		close(j.ended)
		klog.ErrorS(why, "The journal ends here, and nothing else does", "journal", j.run)
		if err := os.WriteFile(filepath.Join(j.run, names.JournalEnded), []byte(why.Error()+"\n"), 0o600); err != nil {
			klog.ErrorS(err, "The journal does not say that it ended early", "journal", j.run)
		}
	})
}

// own locks a run and answers the descriptor that holds the lock, or -1 if another process does.
func own(run string) (int, error) {
	fd, err := syscall.Open(run, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		syscall.Close(fd)
		if err == syscall.EWOULDBLOCK {
			return -1, nil
		}
		return -1, err
	}
	return fd, nil
}

func prune(folder string) {
	var runs []string
	entries, err := os.ReadDir(folder) // sorted by name
	if err != nil {
		klog.ErrorS(err, "Old journals stay", "folder", folder)
	}
	for _, e := range entries {
		run := filepath.Join(folder, e.Name())
		// One that is just being made has no journal yet, and is nobody's to remove.
		if _, err := os.Stat(filepath.Join(run, names.JournalFile)); err == nil && strings.HasPrefix(e.Name(), runPrefix) {
			runs = append(runs, run)
		}
	}
	for _, run := range runs[:max(len(runs)-keptJournals, 0)] {
		fd, err := own(run)
		if err != nil || fd < 0 {
			continue // somebody writes there, or has just removed it
		}
		if err := os.RemoveAll(run); err != nil {
			klog.ErrorS(err, "An old journal stays", "folder", run)
		}
		syscall.Close(fd)
	}
}
