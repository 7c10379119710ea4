// thole-rank runs a rank's command in its container; as an init container it puts itself and the library there.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"thole.dev/kubernetes/rank"
)

const usage = `usage: thole-rank [options] -- COMMAND [ARGUMENT...]
       thole-rank --install FOLDER

Runs COMMAND as a rank of a job: waits for the address of rank 0, hears what the ranks say on THOLE_SOCKET, and leaves
what is known at the end as the container's termination message. Exits with the command's code, 128 + N for signal N,
124 for a rank that hangs, 127 if the command was not started.

Examples:
  thole-rank --install /thole/bin
  thole-rank --hang-timeout=10m --grace=30s -- python3 train.py

Options:
`

func main() {
	o := rank.Options{}
	install := flag.String("install", "", "copy this program and the library beside it into `FOLDER`, and end")
	flag.StringVar(&o.Workdir, "workdir", "", "run the command in `FOLDER`; the image's own without it")
	flag.StringVar(&o.Master, "master", "", "`FILE` that says where rank 0 is; not for rank 0")
	flag.StringVar(&o.Key, "key", "", "`FILE` of a Secret, to be copied to THOLE_KEY")
	flag.StringVar(&o.Message, "message", "/dev/termination-log", "`FILE` of the termination message")
	port := flag.Int("progress", 0, "tell whoever connects to this `PORT` of THOLE_POD_IP how far the job is; 0 for nobody")
	flag.DurationVar(&o.Grace, "grace", 0, "`TIME` that a stop leaves the ranks")
	flag.DurationVar(&o.HangTimeout, "hang-timeout", 0, "a rank with no train step for this `TIME` hangs; 0 never")
	flag.DurationVar(&o.StartTimeout, "start-timeout", 0, "the first step must come within this `TIME`; 0 no limit")
	flag.Usage = func() { fmt.Fprint(flag.CommandLine.Output(), usage); flag.PrintDefaults() }
	flag.Parse()
	switch {
	case *install != "":
		if err := put(*install); err != nil {
			fmt.Fprintln(os.Stderr, "thole-rank:", err)
			os.Exit(1)
		}
	case flag.NArg() == 0:
		fmt.Fprintln(os.Stderr, "thole-rank: no command; see --help")
		os.Exit(2)
	default:
		o.Command = flag.Args()
		if *port != 0 {
			o.Progress = net.JoinHostPort(os.Getenv("THOLE_POD_IP"), strconv.Itoa(*port))
		}
		os.Exit(rank.Run(o))
	}
}

// put copies what lies in this program's folder.
func put(folder string) error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	for _, name := range []string{"thole-rank", "libthole.so.0"} {
		if err := copyFile(filepath.Join(filepath.Dir(own), name), filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Close()
}
