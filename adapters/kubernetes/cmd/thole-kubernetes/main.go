// thole-kubernetes is what `thole COMMAND --on kubernetes` runs.
package main

import (
	"os"

	"thole.dev/kubernetes/command"
)

func main() {
	os.Exit(command.Main(os.Args[1:]))
}
