package rank

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Options of a rank's container. Its pod is made by the controller, or by hand as docs/guide/kubernetes.md shows.
type Options struct {
	Command      []string
	Workdir      string        // where the command runs; the image's working directory without it
	Master       string        // file with "ADDRESS:PORT" of rank 0; not for rank 0 itself
	Key          string        // file of a Secret, to be copied to THOLE_KEY, where only this user reads it
	Message      string        // the termination message, /dev/termination-log
	Progress     string        // "HOST:PORT" where whoever connects is told how far the job is; empty for none
	Grace        time.Duration // that a stop leaves the ranks
	HangTimeout  time.Duration
	StartTimeout time.Duration
}

// Exit codes of its own; every other one is the command's.
const (
	ExitHang     = 124
	ExitNotBegun = 127
)

// Run runs the command to its end and answers the container's exit code.
func Run(o Options) int {
	h := &heard{ranks: map[net.Conn]*oneRank{}}
	h.saved = func(f Facts) { f.write(o.Message) }
	asked := make(chan os.Signal, 8)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	process, err := begin(o, h)
	if err != nil {
		fmt.Fprintln(os.Stderr, "thole-rank:", err)
		Facts{NotBegun: err.Error(), Code: ExitNotBegun}.write(o.Message)
		return ExitNotBegun
	}
	tell(o.Progress, h)
	ended := make(chan syscall.WaitStatus, 1)
	go reap(process.Pid, ended)
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case status := <-ended:
			return leave(o, h, process.Pid, status)
		case <-asked:
			h.stop("platform", o.Grace)
			h.now().write(o.Message) // should the grace time be too short for more
			_ = process.Signal(syscall.SIGTERM)
		case <-look.C:
			if why := h.hang(o.HangTimeout, o.StartTimeout); why != "" {
				return endHang(o, h, process.Pid, why)
			}
		}
	}
}

func begin(o Options, h *heard) (*os.Process, error) {
	if err := setMaster(o); err != nil {
		return nil, err
	}
	if err := takeKey(o.Key); err != nil {
		return nil, err
	}
	if store := os.Getenv("THOLE_STORE"); store != "" {
		if err := os.MkdirAll(store, 0o700); err != nil {
			return nil, fmt.Errorf("the store cannot be written: %w", err)
		}
	}
	if err := h.listen(os.Getenv("THOLE_SOCKET")); err != nil {
		return nil, err
	}
	if o.Workdir != "" {
		if err := os.Chdir(o.Workdir); err != nil {
			return nil, fmt.Errorf("the working directory of the job: %w", err)
		}
	}
	program, err := exec.LookPath(o.Command[0])
	if err != nil {
		return nil, fmt.Errorf("the command %s is not in the image: %w", o.Command[0], err)
	}
	// A group of its own, so that all of it can be ended; it dies with this process.
	return os.StartProcess(program, o.Command, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}})
}

// setMaster waits until it is known where rank 0 is: the controller writes it on the pod when rank 0 has an address.
func setMaster(o Options) error {
	address, port := os.Getenv("THOLE_POD_IP"), os.Getenv("MASTER_PORT")
	if o.Master != "" {
		limit := o.StartTimeout
		if limit <= 0 {
			limit = 30 * time.Minute
		}
		deadline := time.Now().Add(limit)
		for {
			text, _ := os.ReadFile(o.Master)
			if host, p, err := net.SplitHostPort(strings.TrimSpace(string(text))); err == nil {
				address, port = host, p
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("rank 0 got no address within %v", limit)
			}
			time.Sleep(20 * time.Millisecond) // a file that the kubelet swaps in: nothing to wait on that every kernel has
		}
	}
	return firstError(os.Setenv("MASTER_ADDR", address), os.Setenv("MASTER_PORT", port))
}

// takeKey copies the key to where only this user may read it: a Secret's file is its group's as well.
func takeKey(from string) error {
	if from == "" {
		return nil
	}
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("the key cannot be read: %w", err)
	}
	defer source.Close()
	to := os.Getenv("THOLE_KEY")
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	_ = os.Remove(to)
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return firstError(err, target.Close())
}

func firstError(errors ...error) error {
	for _, err := range errors {
		if err != nil {
			return err
		}
	}
	return nil
}

// reap waits for every child, as the first process of a container has to, and tells of the one that counts.
func reap(pid int, ended chan<- syscall.WaitStatus) {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if got == pid {
			ended <- status
			return
		}
		if err != nil {
			return
		}
	}
}

func leave(o Options, h *heard, pid int, status syscall.WaitStatus) int {
	_ = syscall.Kill(-pid, syscall.SIGKILL) // what the command has left behind
	f := h.now()
	f.At = time.Now().UnixNano()
	code := status.ExitStatus()
	if status.Signaled() {
		f.Signal = int(status.Signal())
		code = 128 + f.Signal
	}
	f.Code, f.QuietMs = code, 0
	f.write(o.Message)
	return code
}

func endHang(o Options, h *heard, pid int, why string) int {
	f := h.now()
	f.At, f.Hang, f.Code = time.Now().UnixNano(), why, ExitHang
	f.write(o.Message)
	fmt.Fprintf(os.Stderr, "thole-rank: the rank hangs: %s; it is ended\n", why)
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	return ExitHang
}
