package api

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeepCopyObject as runtime.Object has it.
func (j *TrainingJob) DeepCopyObject() runtime.Object { return j.DeepCopy() }

// DeepCopy answers a job that shares nothing with this one.
func (j *TrainingJob) DeepCopy() *TrainingJob {
	out := &TrainingJob{TypeMeta: j.TypeMeta}
	j.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	j.Spec.DeepCopyInto(&out.Spec)
	out.Status = j.Status
	s := &out.Status
	s.StartTime, s.CompletionTime, s.NotBefore = s.StartTime.DeepCopy(), s.CompletionTime.DeepCopy(), s.NotBefore.DeepCopy()
	if s.Progress != nil {
		progress := *s.Progress
		progress.Time = progress.Time.DeepCopy()
		s.Progress = &progress
	}
	if s.Ending != nil {
		ending := *s.Ending
		s.Ending = &ending
	}
	s.Incidents = slices.Clone(s.Incidents)
	s.Result = s.Result.DeepCopy()
	s.Conditions = copied(s.Conditions)
	return out
}

// DeepCopyObject as runtime.Object has it.
func (p *NodePool) DeepCopyObject() runtime.Object {
	out := &NodePool{TypeMeta: p.TypeMeta, Status: p.Status}
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	p.Spec.DeepCopyInto(&out.Spec)
	out.Status.Conditions = copied(p.Status.Conditions)
	return out
}

// DeepCopyObject as runtime.Object has it.
func (l *TrainingJobList) DeepCopyObject() runtime.Object {
	out := &TrainingJobList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopy())
	}
	return out
}

// DeepCopyObject as runtime.Object has it.
func (l *NodePoolList) DeepCopyObject() runtime.Object {
	out := &NodePoolList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopyObject().(*NodePool))
	}
	return out
}

func copied(conditions []metav1.Condition) []metav1.Condition {
	return slices.Clone(conditions) // their times are values
}
