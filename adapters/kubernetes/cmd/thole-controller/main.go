// thole-controller runs TrainingJobs on Kubernetes: it makes their pods, follows their attempts, and gives the nodes of
// NodePools their capacity.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/controller"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
	"thole.dev/kubernetes/pool"
)

const usage = `usage: thole-controller [options]

Follows the TrainingJobs and NodePools of a cluster. It finds the cluster as kubectl does (--kubeconfig, KUBECONFIG,
or the service account of its pod).

Examples:
  thole-controller --rank-image=thole:0.1 --default-image=digits:1
  thole-controller --kubeconfig=admin.conf --leader-elect=false

Options:
`

func main() {
	var images controller.Images
	library := flag.String("library", "", "`PATH` of libthole.so.0; THOLE_LIBRARY, or the loader's, without it")
	flag.StringVar(&images.Rank, "rank-image", "", "`IMAGE` that has thole-rank and the library")
	flag.StringVar(&images.Default, "default-image", "", "`IMAGE` of roles that name none; without it they are refused")
	elect := flag.Bool("leader-elect", true, "one of several controllers works, the others wait")
	namespace := flag.String("leader-namespace", "", "`NAMESPACE` of the leader's lease; that of its pod without it")
	address := flag.String("metrics", "0", "`ADDRESS` of /metrics, as host:port; 0 for none")
	flag.Usage = func() { fmt.Fprint(flag.CommandLine.Output(), usage); flag.PrintDefaults() }
	flag.Parse()
	if err := run(*library, images, *elect, *namespace, *address); err != nil {
		fmt.Fprintln(os.Stderr, "thole-controller:", err)
		os.Exit(1)
	}
}

func run(library string, images controller.Images, elect bool, namespace, address string) error {
	if images.Rank == "" {
		return fmt.Errorf("no --rank-image: the pods of jobs take thole-rank out of it")
	}
	ctrl.SetLogger(klog.Background())
	c, err := core.Open(library, nil)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := clientscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if err := api.AddToScheme(scheme); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 200, 400
	ours, err := labels.NewRequirement(names.Job, selection.Exists, nil)
	if err != nil {
		return err
	}
	m, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: metrics.Options{BindAddress: address},
		LeaderElection: elect, LeaderElectionID: "thole-controller", LeaderElectionNamespace: namespace, LeaderElectionReleaseOnCancel: true,
		// Of pods only those of jobs are followed: a cluster has many more.
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{&v1.Pod{}: {Label: labels.NewSelector().Add(*ours)}}}})
	if err != nil {
		return err
	}
	if err := errors.Join(controller.Add(m, c, images), pool.Add(m, c)); err != nil {
		return err
	}
	return m.Start(ctrl.SetupSignalHandler())
}
