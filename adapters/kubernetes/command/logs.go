package command

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"thole.dev/kubernetes/api"
	"thole.dev/kubernetes/names"
)

type logsOptions struct {
	follow  bool
	rank    int
	attempt int64
}

func (s *session) logsCommand(args cobra.PositionalArgs) *cobra.Command {
	o := logsOptions{rank: -1}
	command := &cobra.Command{Use: "logs NAME", Short: "What the ranks have written, a line as RANK| line", Args: args}
	command.RunE = s.with(func(c *cobra.Command, arguments []string) error {
		job, err := s.job(c, arguments[0])
		if err != nil {
			return err
		}
		attempt := cmp.Or(o.attempt, job.Status.Attempt)
		read := map[types.UID]bool{}
		for {
			if err := s.logsOf(c, job, attempt, o, read); err != nil {
				return err
			}
			if !o.follow || o.attempt != 0 {
				return nil
			}
			// Across attempts, until the job is over.
			if job, err = s.job(c, arguments[0]); err != nil {
				return err
			}
			if over(job) && job.Status.Attempt == attempt {
				return nil
			}
			if job.Status.Attempt > attempt {
				attempt++
				continue
			}
			time.Sleep(time.Second)
		}
	})
	command.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on to the end, across attempts")
	command.Flags().IntVar(&o.rank, "rank", -1, "only this `rank`")
	command.Flags().Int64Var(&o.attempt, "attempt", 0, "which `attempt` [the newest]")
	return command
}

func over(job *api.TrainingJob) bool {
	return slices.Contains([]string{api.Complete, api.Failed, api.Stopped, api.Refused}, job.Status.Phase)
}

func rankOf(pod *v1.Pod) int {
	for _, v := range pod.Spec.Containers[0].Env {
		if v.Name == "RANK" {
			n, _ := strconv.Atoi(v.Value)
			return n
		}
	}
	return 0
}

func (s *session) podsOf(c *cobra.Command, job *api.TrainingJob, attempt int64) ([]v1.Pod, error) {
	var list v1.PodList
	err := s.client.List(c.Context(), &list, client.InNamespace(job.Namespace),
		client.MatchingLabels{names.Job: job.Name, names.Attempt: strconv.FormatInt(attempt, 10)})
	slices.SortFunc(list.Items, func(a, b v1.Pod) int { return rankOf(&a) - rankOf(&b) })
	return list.Items, err
}

// logsOf copies what an attempt's pods have written, but for those that were read to their end.
func (s *session) logsOf(c *cobra.Command, job *api.TrainingJob, attempt int64, o logsOptions, read map[types.UID]bool) error {
	pods, err := s.podsOf(c, job, attempt)
	if err != nil {
		return err
	}
	var lock sync.Mutex
	var all sync.WaitGroup
	var failed error
	for i := range pods {
		pod := &pods[i]
		rank := rankOf(pod)
		if o.rank >= 0 && rank != o.rank || read[pod.UID] {
			continue
		}
		copied := func() {
			err := s.copyLog(c, pod, rank, o.follow, &lock)
			lock.Lock()
			read[pod.UID] = err == nil
			failed = errors.Join(failed, err)
			lock.Unlock()
		}
		if o.follow {
			all.Go(copied)
		} else {
			copied()
		}
	}
	all.Wait()
	if o.follow {
		return nil // a container that has not begun is looked at again
	}
	return failed
}

func (s *session) copyLog(c *cobra.Command, pod *v1.Pod, rank int, follow bool, lock *sync.Mutex) error {
	from, err := s.pods.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &v1.PodLogOptions{Container: "main", Follow: follow}).Stream(c.Context())
	if err != nil {
		return err
	}
	defer from.Close()
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			lock.Lock()
			fmt.Fprintf(s.out, "%d| %s", rank, line)
			lock.Unlock()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// kill ends the pods of the present attempt without waiting for a checkpoint.
func (s *session) kill(c *cobra.Command, job *api.TrainingJob) error {
	pods, err := s.podsOf(c, job, job.Status.Attempt)
	if err != nil {
		return err
	}
	for i := range pods {
		if err := s.client.Delete(c.Context(), &pods[i], client.GracePeriodSeconds(1)); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
