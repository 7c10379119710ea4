package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

// submit checks the file with the core first: its errors have the file's lines, which the cluster does not know.
func (s *session) submit(c *cobra.Command, arguments []string) error {
	text, err := os.ReadFile(arguments[0])
	if err != nil {
		return &problem{"FileUnreadable", err.Error(), exitMissing}
	}
	library, err := core.Open("", nil)
	if err != nil {
		return err
	}
	document, err := library.ReadDocument(string(text), "kubernetes")
	var said *core.Error
	if errors.As(err, &said) {
		for _, n := range document.Notes {
			if n.Error {
				fmt.Fprintf(s.progress, "%s:%d:%d: %s: %s: %s\n", arguments[0], n.Line, n.Column, n.Reason, n.Field, n.Message)
			}
		}
		return &problem{said.Reason, arguments[0] + ": " + said.Message, exitRefused}
	}
	if err != nil {
		return err
	}
	if document.Kind != "TrainingJob" {
		return &problem{"KindUnknown", fmt.Sprintf("%s is a %s: a TrainingJob is wanted here", arguments[0], document.Kind), exitRefused}
	}
	job := &api.TrainingJob{}
	if err := json.Unmarshal([]byte(document.JSON), job); err != nil {
		return err
	}
	job.Namespace = s.namespace
	err = s.client.Create(c.Context(), job)
	if apierrors.IsAlreadyExists(err) {
		return &problem{"JobExists", fmt.Sprintf("namespace %s has a job %s already: kubectl delete trainingjob %s, or give this one another name",
			s.namespace, job.Name, job.Name), exitRefused}
	}
	if err != nil {
		return err
	}
	if s.asJSON {
		s.print(map[string]any{"job": job.Name, "namespace": job.Namespace, "run": job.UID})
	} else {
		fmt.Fprintf(s.out, "job %s submitted to namespace %s, run %s\n", job.Name, job.Namespace, job.UID)
	}
	return nil
}

type summary struct {
	Job       string `json:"job"`
	Namespace string `json:"namespace"`
	Run       string `json:"run"`
	api.JobStatus
}

func summaryOf(j *api.TrainingJob) summary {
	return summary{j.Name, j.Namespace, string(j.UID), j.Status}
}

func (s *session) status(c *cobra.Command, arguments []string) error {
	if len(arguments) == 0 {
		return s.list(c)
	}
	job, err := s.job(c, arguments[0])
	if err != nil {
		return err
	}
	if s.asJSON {
		s.print(summaryOf(job))
		return nil
	}
	t := job.Status
	fmt.Fprintf(s.out, "job        %s, namespace %s, run %s\n", job.Name, job.Namespace, job.UID)
	fmt.Fprintf(s.out, "phase      %s, attempt %d", orElse(t.Phase, "new"), t.Attempt)
	if t.Members != "" {
		fmt.Fprintf(s.out, ", %s members run", t.Members)
	}
	fmt.Fprintln(s.out)
	if t.Progress != nil {
		fmt.Fprintf(s.out, "progress   %s\n", progressOf(t.Progress, time.Now()))
	}
	if t.Checkpoint > 0 {
		fmt.Fprintf(s.out, "checkpoint step %d is the newest that is known\n", t.Checkpoint)
	}
	for _, condition := range t.Conditions {
		fmt.Fprintf(s.out, "%-10s %s: %s\n", strings.ToLower(condition.Type), condition.Reason, condition.Message)
	}
	for n, i := range t.Incidents {
		fmt.Fprintf(s.out, "incident %d attempt %d, rank %d (%s on %s): %s. %s\n", n+1, i.Attempt, i.Rank, i.Member, orElse(i.Node, "no node"), i.Message, i.Decision)
	}
	if t.Result != nil {
		fmt.Fprintf(s.out, "result     %s\n", t.Result.Raw)
	}
	return nil
}

// progressOf says how far a job is, and how old that word is.
func progressOf(p *api.Progress, now time.Time) string {
	var out []string
	if p.Time != nil {
		out = append(out, fmt.Sprintf("step %d of attempt %d, heard %v ago", p.Step, p.Attempt, max(now.Sub(p.Time.Time), 0).Round(time.Second)))
	}
	if p.Message != "" {
		out = append(out, p.Message)
	}
	return strings.Join(out, "; ")
}

func stepOf(p *api.Progress) uint64 {
	if p == nil {
		return 0
	}
	return p.Step
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (s *session) list(c *cobra.Command) error {
	var jobs api.TrainingJobList
	if err := s.client.List(c.Context(), &jobs, client.InNamespace(s.namespace)); err != nil {
		return err
	}
	if s.asJSON {
		out := []summary{}
		for i := range jobs.Items {
			out = append(out, summaryOf(&jobs.Items[i]))
		}
		s.print(map[string]any{"jobs": out})
		return nil
	}
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tPHASE\tATTEMPT\tMEMBERS\tSTEP\tCHECKPOINT\tINCIDENTS")
	for _, j := range jobs.Items {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\t%d\t%d\n", j.Name, orElse(j.Status.Phase, "new"), j.Status.Attempt, j.Status.Members, stepOf(j.Status.Progress),
			j.Status.Checkpoint, len(j.Status.Incidents))
	}
	return table.Flush()
}

// explain says what keeps a job from running: the last condition that is not as it should be.
func (s *session) explain(c *cobra.Command, arguments []string) error {
	job, err := s.job(c, arguments[0])
	if err != nil {
		return err
	}
	var why *metav1.Condition
	for _, kind := range []string{api.Accepted, api.Placed, api.Ready} {
		if found := meta.FindStatusCondition(job.Status.Conditions, kind); found != nil && found.Status == metav1.ConditionFalse {
			why = found
			break
		}
	}
	if failed := meta.FindStatusCondition(job.Status.Conditions, api.JobFailed); failed != nil {
		why = failed
	}
	if meta.IsStatusConditionTrue(job.Status.Conditions, api.JobComplete) {
		why = nil
	}
	switch {
	case s.asJSON:
		s.print(map[string]any{"job": job.Name, "phase": job.Status.Phase, "because": why})
	case why == nil:
		fmt.Fprintf(s.out, "job %s is %s: nothing keeps it from running\n", job.Name, orElse(strings.ToLower(job.Status.Phase), "new"))
	default:
		fmt.Fprintf(s.out, "job %s is %s\n%s: %s\n", job.Name, orElse(strings.ToLower(job.Status.Phase), "new"), why.Reason, why.Message)
	}
	return nil
}

func (s *session) cancelCommand(args cobra.PositionalArgs) *cobra.Command {
	now := false
	command := &cobra.Command{Use: "cancel NAME", Short: "Asks a job to save and stop; --now kills it", Args: args}
	command.RunE = s.with(func(c *cobra.Command, arguments []string) error {
		job, err := s.job(c, arguments[0])
		if err != nil {
			return err
		}
		patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{names.Stop: "true"}}})
		if err := s.client.Patch(c.Context(), job, client.RawPatch("application/merge-patch+json", patch)); err != nil {
			return err
		}
		if now {
			if err := s.kill(c, job); err != nil {
				return err
			}
		}
		if s.asJSON {
			s.print(map[string]any{"job": job.Name, "now": now})
		} else if now {
			fmt.Fprintf(s.out, "job %s is being killed\n", job.Name)
		} else {
			fmt.Fprintf(s.out, "job %s was asked to save first and to stop\n", job.Name)
		}
		return nil
	})
	command.Flags().BoolVar(&now, "now", false, "kill it")
	return command
}
