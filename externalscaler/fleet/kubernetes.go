package fleet

import (
	"cmp"
	"time"
)

// Kubernetes is what fleet reads of the cluster, from caches that a watch keeps
// current. The returned values are not to be changed.
type Kubernetes interface {
	// ScaledJobs are those with an external trigger that names this installation.
	ScaledJobs() []ScaledJob
	// Jobs are the unfinished Jobs of ScaledJobs, with their pods.
	Jobs() []Job
	// Pods are the unfinished pods of runner Jobs, those too whose Job or ScaledJob
	// was deleted: they may be about to end a step.
	Pods() []Pod
}

// GroupKey names a runner group: the namespace and name of its ScaledJob.
type GroupKey struct{ Namespace, Name string }

func (k GroupKey) String() string { return k.Namespace + "/" + k.Name }

func (k GroupKey) compare(other GroupKey) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}

// ScaledJob is what is known of a group from its ScaledJob.
type ScaledJob struct {
	GroupKey
	UID       string
	CreatedOn time.Time
	// Generation changes with every change of its specification.
	Generation string
	// Metadata of its external trigger, as in the manifest.
	Metadata map[string]string
	// PollingInterval is how often KEDA is to ask for it.
	PollingInterval time.Duration
	// Hold says why the group must not be scaled down: it is paused, or another
	// trigger or a calculation over triggers would fight with the scale-down.
	// Empty if nothing prevents it.
	Hold string
}

// Job is an unfinished Job that a ScaledJob owns.
type Job struct {
	Namespace, Name, UID string
	// ScaledJobUID is the UID of the controller owner.
	ScaledJobUID string
	// Generation of the ScaledJob that the Job was made of; empty if not known.
	Generation string
	CreatedOn  time.Time
	// ResourceVersion changes with each change of the Job, such as the creation of its
	// pod.
	ResourceVersion string
	// Pod is the Job's newest pod; nil before it is created.
	Pod *Pod
}

// Pod is a pod of a runner Job.
type Pod struct {
	Namespace, Name, UID string
	CreatedOn            time.Time
	// Node that it was given to; empty while it waits for one.
	Node string
	// Deleting is true once the pod is being deleted: it ends within its grace.
	Deleting bool
	// Finished is true once the pod's phase is Succeeded or Failed.
	Finished bool
}
