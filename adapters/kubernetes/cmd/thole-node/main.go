// thole-node runs on each node of a NodePool that is not simulated, and says what GPUs the node has.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/pool"
)

const usage = `usage: thole-node [options]

Writes the GPUs of this node, and the capacity that follows, on its node object, for as long as the node is in a NodePool
that is not simulated. Where the driver fails, capacity is zero and the node says why.

Examples:
  thole-node --node=gpu-7 --plugins=/plugins
  THOLE_NODE=gpu-7 thole-node --kubeconfig=admin.conf --plugins=/usr/lib/thole/plugins --every=10s

Options:
`

func main() {
	agent := pool.Agent{}
	library := flag.String("library", "", "`PATH` of libthole.so.0; THOLE_LIBRARY, or the loader's, without it")
	plugins := flag.String("plugins", "/plugins", "`FOLDER` with the device plugin and its manifest")
	flag.StringVar(&agent.Node, "node", os.Getenv("THOLE_NODE"), "`NAME` of this node; THOLE_NODE without it")
	flag.StringVar(&agent.Plugin, "plugin", "thole.device.nvml", "`ID` of the device plugin")
	flag.StringVar(&agent.Options, "plugin-options", "{}", "`JSON` for the device plugin")
	flag.DurationVar(&agent.Every, "every", 30*time.Second, "`TIME` between two looks at the driver")
	flag.Usage = func() { fmt.Fprint(flag.CommandLine.Output(), usage); flag.PrintDefaults() }
	flag.Parse()
	if err := run(&agent, *library, *plugins); err != nil {
		fmt.Fprintln(os.Stderr, "thole-node:", err)
		os.Exit(1)
	}
}

func run(agent *pool.Agent, library, plugins string) error {
	if agent.Node == "" {
		return errors.New("no --node and no THOLE_NODE: say which node this is (spec.nodeName of its pod)")
	}
	if agent.Every < time.Second {
		return fmt.Errorf("--every=%v: once a second is the most", agent.Every)
	}
	ctrl.SetLogger(klog.Background())
	c, err := core.Open(library, nil)
	if err != nil {
		return err
	}
	if err := c.Load(plugins); err != nil {
		return fmt.Errorf("the plugins in %s: %w", plugins, err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	own := cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", agent.Node)}
	m, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: metrics.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{&v1.Node{}: own}}})
	if err != nil {
		return err
	}
	agent.Client, agent.Core = m.GetClient(), c
	if err := agent.Add(m); err != nil {
		return err
	}
	return m.Start(ctrl.SetupSignalHandler())
}
