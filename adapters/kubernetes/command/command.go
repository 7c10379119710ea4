// Package command is what `thole COMMAND --on kubernetes` runs: it reads and writes TrainingJobs as the caller's kubeconfig
// allows, and nothing of the node or the scheduler.
package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
)

// Exit codes of docs/reference/cli.md.
const (
	exitUsage       = 64
	exitRefused     = 65
	exitMissing     = 66
	exitUnavailable = 69
	exitDefect      = 70
	exitDamaged     = 74
	exitForbidden   = 77
)

// problem is what a person is told, with the exit code that goes with it.
type problem struct {
	Reason   string `json:"reason"`
	Message  string `json:"message"`
	ExitCode int    `json:"exitCode"`
}

func (p *problem) Error() string { return p.Reason + ": " + p.Message }

// session is one call of the command.
type session struct {
	out, progress       io.Writer
	asJSON              bool
	kubeconfig, context string
	namespace           string
	client              client.Client
	pods                kubernetes.Interface
	config              *rest.Config
}

// Main runs the command and answers the exit code.
func Main(arguments []string) int {
	s := &session{out: os.Stdout, progress: os.Stderr}
	root := s.root()
	root.SetArgs(arguments)
	err := root.Execute()
	if err == nil {
		return 0
	}
	var p *problem
	if !errors.As(err, &p) {
		p = problemOf(err)
	}
	fmt.Fprintln(os.Stderr, "thole:", p)
	if s.asJSON {
		s.print(map[string]any{"error": p})
	}
	return p.ExitCode
}

func problemOf(err error) *problem {
	var said *core.Error
	switch {
	case errors.As(err, &said):
		return &problem{said.Reason, said.Message, exitRefused}
	case apierrors.IsNotFound(err):
		return &problem{"NotFound", err.Error(), exitMissing}
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return &problem{"AccessDenied", err.Error(), exitForbidden}
	case apierrors.ReasonForError(err) != "", clientcmd.IsEmptyConfig(err):
		return &problem{"ClusterUnavailable", err.Error(), exitUnavailable}
	}
	return &problem{"CommandUnavailable", err.Error(), exitUsage}
}

func (s *session) root() *cobra.Command {
	root := &cobra.Command{Use: "thole-kubernetes", SilenceUsage: true, SilenceErrors: true,
		Short: "Runs Thole's jobs on Kubernetes. `thole COMMAND --on kubernetes` calls it.",
		Example: "  thole --on kubernetes submit job.yaml\n  thole --on kubernetes status digits -n team-a\n" +
			"  thole --on kubernetes logs -f digits --rank 0\n  thole --on kubernetes explain digits\n  thole --on kubernetes cancel digits"}
	flags := root.PersistentFlags()
	flags.BoolVar(&s.asJSON, "json", false, "answer as JSON on standard output")
	flags.StringVarP(&s.namespace, "namespace", "n", "", "`namespace` of the job [that of the kubeconfig's context]")
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "`file` that says where the cluster is [as kubectl has it]")
	flags.StringVar(&s.context, "context", "", "`name` of the kubeconfig's context")
	root.CompletionOptions.DisableDefaultCmd = true
	name := func(c *cobra.Command, arguments []string) error {
		if err := cobra.ExactArgs(1)(c, arguments); err != nil {
			return &problem{"OptionBad", "one job's name is needed; see --help", exitUsage}
		}
		return nil
	}
	root.AddCommand(
		&cobra.Command{Use: "submit FILE", Short: "Creates the TrainingJob of a job file", Args: cobra.ExactArgs(1), RunE: s.with(s.submit)},
		&cobra.Command{Use: "status [NAME]", Short: "Lists the jobs, or tells all of one", Args: cobra.MaximumNArgs(1), RunE: s.with(s.status)},
		&cobra.Command{Use: "explain NAME", Short: "Why a job waits: the reason, with the largest hole", Args: name, RunE: s.with(s.explain)},
		s.logsCommand(name), s.cancelCommand(name), s.journalCommand())
	return root
}

// with connects before the command runs.
func (s *session) with(run func(c *cobra.Command, arguments []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, arguments []string) error {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = s.kubeconfig
		loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: s.context})
		var err error
		if s.config, err = loader.ClientConfig(); err != nil {
			return &problem{"ClusterUnavailable", fmt.Sprintf("%v; give --kubeconfig, or set KUBECONFIG", err), exitUnavailable}
		}
		if s.namespace == "" {
			if s.namespace, _, err = loader.Namespace(); err != nil {
				return err
			}
		}
		scheme := runtime.NewScheme()
		if err := errors.Join(clientscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
			return err
		}
		if s.client, err = client.New(s.config, client.Options{Scheme: scheme}); err != nil {
			return &problem{"ClusterUnavailable", err.Error(), exitUnavailable}
		}
		if s.pods, err = kubernetes.NewForConfig(s.config); err != nil {
			return err
		}
		return run(c, arguments)
	}
}

func (s *session) print(value any) {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		text = fmt.Appendf(nil, `{"error": {"reason": "Defect", "message": %q}}`, err)
	}
	fmt.Fprintln(s.out, string(text))
}

func (s *session) job(c *cobra.Command, name string) (*api.TrainingJob, error) {
	job := &api.TrainingJob{}
	err := s.client.Get(c.Context(), client.ObjectKey{Namespace: s.namespace, Name: name}, job)
	if apierrors.IsNotFound(err) {
		return nil, &problem{"JobNotFound", fmt.Sprintf("namespace %s has no job %s: `kubectl get trainingjobs -A` lists all", s.namespace, name), exitMissing}
	}
	return job, err
}
