package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

func (s *session) journalCommand() *cobra.Command {
	return &cobra.Command{Use: "journal FOLDER", Short: "Replays a scheduler's journal: which gang held which GPU of which node",
		Long: "Replays the journal of one process of thole-scheduler (its argument `journal`) and says what the ledger held at its end: " +
			"what the process had planned, and what it had found bound when it began. The cluster is not asked.",
		Example: "  kubectl cp thole-system/thole-scheduler-0123:/var/lib/thole/journal journal\n" +
			"  thole --on kubernetes journal journal/run-20261130T073137.123456789Z-1\n" +
			"  thole --on kubernetes --json journal journal/run-20261130T073137.123456789Z-1 | jq '.gangs[].members[].node'",
		Args: func(c *cobra.Command, arguments []string) error {
			if len(arguments) != 1 {
				return &problem{"OptionBad", "the folder of one process's journal is needed; see --help", exitUsage}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, arguments []string) error { return s.journal(arguments[0]) }}
}

// Of a journal, as it is printed.
type (
	journalGang struct {
		Gang      string          `json:"gang"` // as the annotation thole.dev/allocation has it
		Confirmed bool            `json:"confirmed"`
		Ranks     uint32          `json:"ranks"`
		Members   []journalMember `json:"members"`
	}
	journalMember struct {
		Role      uint32       `json:"roleIndex"`
		Member    uint32       `json:"member"`
		FirstRank uint32       `json:"firstRank"`
		Node      string       `json:"node"`
		Grants    []core.Grant `json:"grants"`
	}
)

func (s *session) journal(folder string) error {
	j, err := replay(folder)
	if err != nil {
		return err
	}
	for _, note := range j.notes {
		fmt.Fprintln(s.progress, "thole:", note)
	}
	if s.asJSON {
		s.print(map[string]any{"folder": folder, "revision": j.revision, "gangs": j.gangs, "notes": j.notes})
		return nil
	}
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "GANG\tSTATE\tROLE\tMEMBER\tRANK\tNODE\tGPU\tMEMORY MIB\tSHARE")
	for _, g := range j.gangs {
		for _, m := range g.Members {
			at := fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%s", g.Gang, g.state(), m.Role, m.Member, m.FirstRank, m.Node)
			if len(m.Grants) == 0 {
				fmt.Fprintf(table, "%s\tnone\t\t\n", at)
			}
			for _, d := range m.Grants {
				fmt.Fprintf(table, "%s\t%s\t%d\t%.3f\n", at, d.UUID, d.MemoryMiB, float64(d.ShareMilli)/1000)
			}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%d gangs, after %d changes\n", len(j.gangs), j.revision)
	return nil
}

func (g *journalGang) state() string {
	if g.Confirmed {
		return "confirmed"
	}
	return "reserved"
}

// replayed is what a journal says at its end.
type replayed struct {
	revision uint64
	gangs    []journalGang
	notes    []string // that it ended early, or in the middle of a change
}

// replay reads a copy of a journal: a process may be writing to it, and it may be another user's.
func replay(folder string) (*replayed, error) {
	text, err := os.ReadFile(filepath.Join(folder, names.JournalFile))
	if err != nil {
		return nil, &problem{"FileUnreadable", fmt.Sprintf("%v; the folder of one process is wanted, run-*, in which %s lies", err, names.JournalFile), exitMissing}
	}
	copied, err := os.MkdirTemp("", "thole-journal-")
	if err != nil {
		return nil, &problem{"StateUnwritable", err.Error(), exitForbidden}
	}
	defer os.RemoveAll(copied)
	if err := os.WriteFile(filepath.Join(copied, names.JournalFile), text, 0o600); err != nil {
		return nil, &problem{"StateUnwritable", err.Error(), exitForbidden}
	}
	out := &replayed{gangs: []journalGang{}, notes: []string{}}
	if why, err := os.ReadFile(filepath.Join(folder, names.JournalEnded)); err == nil {
		out.notes = append(out.notes, "the journal ended before its process: "+strings.TrimSpace(string(why)))
	}
	library, err := core.OpenJournal("", copied, func(_ int, _, message string) { out.notes = append(out.notes, message) })
	if err != nil {
		return nil, journalProblem(err, copied, folder)
	}
	defer library.Close()
	return out, out.read(library)
}

func (r *replayed) read(library *core.Core) error {
	// The scheduler's reservations do not expire in the ledger: it takes them back itself.
	held, err := library.Gangs(time.Now())
	if err != nil {
		return err
	}
	if _, r.revision, err = library.Usage(time.Now()); err != nil {
		return err
	}
	for _, p := range held {
		g := journalGang{p.Gang.String(), p.Confirmed, p.Ranks, nil}
		for _, m := range p.Placements {
			g.Members = append(g.Members, journalMember{m.Role, m.Member, m.FirstRank, m.Node, m.Grants})
		}
		r.gangs = append(r.gangs, g)
	}
	return nil
}

// journalProblem names the journal in the place of its copy.
func journalProblem(err error, copied, folder string) error {
	var said *core.Error
	if !errors.As(err, &said) {
		return err
	}
	code := exitRefused
	switch said.Code {
	case core.DataLoss:
		code = exitDamaged
	case core.NotKnown:
		code = exitUnavailable
	}
	return &problem{said.Reason, strings.ReplaceAll(said.Message, copied, folder), code}
}
