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
	// Jobs are the unfinished Jobs of ScaledJobs, with their pods, and those that have
	// failed, as long as they are kept.
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

// Job is a Job that a ScaledJob owns. It is unfinished unless Failed is set.
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
	// Drain is true if somebody has asked that its runner ends.
	Drain bool
	// Pod is the Job's newest pod; nil before it is created.
	Pod *Pod
	// Waits is why it has no pod; zero if it has one, or if that is not known.
	Waits Cause
	// Failed is how the Job failed; nil if it has not.
	Failed *Failure
}

// Cause is why a Job does not come to a runner or has failed, in Kubernetes' words.
type Cause struct {
	// Reason is one word, such as ImagePullBackOff, OOMKilled, Unschedulable or
	// FailedCreate; empty for none.
	Reason string
	// Message explains it, in one line. It may be empty.
	Message string
	// CannotStart is true if a container of the pod fails to start.
	CannotStart bool
}

func (c Cause) String() string {
	if c.Message == "" {
		return c.Reason
	}
	return c.Reason + ": " + c.Message
}

// Failure is how a Job failed.
type Failure struct {
	Cause
	// On is when it failed.
	On time.Time
	// Lived is how long its runner container ran; 0 if it never started.
	Lived time.Duration
	// Disrupted is true if something else ended the pod: it was deleted, evicted or
	// preempted.
	Disrupted bool
}

// Pod is a pod of a runner Job.
type Pod struct {
	Namespace, Name, UID string
	CreatedOn            time.Time
	// Node that it was given to; empty while it waits for one.
	Node string
	// ScheduledOn is when it was given to the node. SidecarOn and RunnerOn are when the
	// containers of these names started. Each is zero before.
	ScheduledOn, SidecarOn, RunnerOn time.Time
	// Deleting is true once the pod is being deleted: it ends within its grace.
	Deleting bool
	// Finished is true once the pod's phase is Succeeded or Failed.
	Finished bool
	// Waits is why the pod does not run: a container that fails to start, or no node.
	// It is zero if nothing is wrong, or not yet.
	Waits Cause
}
