package scheduler

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/klog/v2"

	"thole.dev/kubernetes/gang"
)

// aside keeps one bad gang from ending this process again and again: the gang is noted before the ledger is called for it,
// and whoever finds the note when it starts sets that gang aside. The folder must outlive the process (an emptyDir does).
// Without a folder nothing is noted. The book's lock protects it.
type aside struct {
	folder string
	gangs  map[gang.Key]bool
}

const inFlight, setAside = "in-flight", "set-aside"

func openAside(folder string) (*aside, error) {
	a := &aside{folder, map[gang.Key]bool{}}
	if folder == "" {
		return a, nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for notes: %w", err)
	}
	before, err := os.ReadFile(filepath.Join(folder, setAside))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found, err := os.ReadFile(filepath.Join(folder, inFlight))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := string(before) + string(found)
	for line := range strings.Lines(all) {
		if key, ok := parse(strings.TrimSuffix(line, "\n")); ok {
			a.gangs[key] = true
		}
	}
	if len(found) > 0 {
		klog.ErrorS(nil, "This process ended while it placed a gang: the gang is set aside", "gang", strings.TrimSpace(string(found)))
		if err := os.WriteFile(filepath.Join(folder, setAside), []byte(all), 0o600); err != nil {
			return nil, err
		}
		a.left()
	}
	return a, nil
}

func line(k gang.Key) string { return fmt.Sprintf("%s %s %s\n", k.Source, k.Namespace, k.Name) }

func parse(text string) (gang.Key, bool) {
	parts := strings.SplitN(text, " ", 3)
	if len(parts) != 3 {
		return gang.Key{}, false
	}
	return gang.Key{Source: gang.Source(parts[0]), Namespace: parts[1], Name: parts[2]}, true
}

func (a *aside) why(key gang.Key) string {
	if !a.gangs[key] {
		return ""
	}
	return fmt.Sprintf("GangSetAside: the scheduler ended while it placed gang %s, and does not try it again: report it, and give the gang another name", key)
}

func (a *aside) entering(key gang.Key) {
	if a.folder == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(a.folder, inFlight), []byte(line(key)), 0o600); err != nil {
		klog.ErrorS(err, "The gang that is being placed is not noted")
	}
}

func (a *aside) left() {
	if a.folder == "" {
		return
	}
	if err := os.Remove(filepath.Join(a.folder, inFlight)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "The note of the gang that was placed stays")
	}
}
