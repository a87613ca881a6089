package testbed

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/reaper"
	"bitbucket-runner-scaler/externalscaler/registrar"
)

// Cluster contains the parts of Kubernetes that the control plane uses, in memory:
// ScaledJobs, their unfinished Jobs with one pod each, the tokens of those pods, and the
// last Jobs that failed. It
// implements controlplane.Cluster. It is safe for concurrent use.
type Cluster struct {
	// Changed is called after each change, in place of a watch. Set it before use.
	Changed func()
	// Removed is called when a pod is deleted, so that the node stops it. Set it before use.
	Removed func(pod fleet.Pod)

	mu         sync.Mutex
	scaledJobs map[string]fleet.ScaledJob    // by UID
	jobs       map[string]fleet.Job          // by UID, unfinished
	orphaned   map[string]fleet.Pod          // by the UID of their deleted Job
	hidden     map[string]struct{}           // UIDs of the Jobs that the watch does not show
	tokens     map[string]registrar.Identity // by token
	completed  map[fleet.GroupKey]int        // Jobs that completed
	failed     map[fleet.GroupKey]int        // Jobs that failed
	kept       map[string][]fleet.Job        // by ScaledJob UID, the last Jobs that failed
	events     []Event
	created    int
	shown      shown
}

// Event is an Event on a ScaledJob.
type Event struct {
	Group           fleet.GroupKey
	Reason, Message string
}

// NewCluster returns an empty Cluster.
func NewCluster() *Cluster {
	return &Cluster{
		Changed: func() {}, Removed: func(fleet.Pod) {},
		scaledJobs: map[string]fleet.ScaledJob{}, jobs: map[string]fleet.Job{}, orphaned: map[string]fleet.Pod{}, hidden: map[string]struct{}{},
		tokens: map[string]registrar.Identity{}, completed: map[fleet.GroupKey]int{}, failed: map[fleet.GroupKey]int{},
		kept: map[string][]fleet.Job{},
	}
}

// Apply creates a ScaledJob with an external trigger of this metadata.
func (c *Cluster) Apply(key fleet.GroupKey, metadata map[string]string) fleet.ScaledJob {
	scaledJob := fleet.ScaledJob{GroupKey: key, UID: uuid.NewString(), CreatedOn: time.Now(), Metadata: maps.Clone(metadata)}
	c.mu.Lock()
	c.scaledJobs[scaledJob.UID] = scaledJob
	c.mu.Unlock()
	c.Changed()
	return scaledJob
}

// Remove deletes a ScaledJob, but not its Jobs. See Bed.Delete.
func (c *Cluster) Remove(uid string) {
	c.mu.Lock()
	delete(c.scaledJobs, uid)
	delete(c.kept, uid)
	c.mu.Unlock()
	c.Changed()
}

// CreateJob creates an unfinished Job of a ScaledJob, with its pod and the pod's token.
func (c *Cluster) CreateJob(owner fleet.ScaledJob) (job fleet.Job, token string) {
	c.mu.Lock()
	c.created++
	name := owner.Name + "-" + strconv.FormatInt(int64(c.created+1000), 36)
	now := time.Now()
	pod := fleet.Pod{Namespace: owner.Namespace, Name: name + "-pod", UID: uuid.NewString(), CreatedOn: now}
	job = fleet.Job{Namespace: owner.Namespace, Name: name, UID: uuid.NewString(), ScaledJobUID: owner.UID, Generation: owner.Generation, CreatedOn: now, Pod: &pod}
	token = uuid.NewString()
	c.jobs[job.UID] = job
	c.tokens[token] = registrar.Identity{Namespace: pod.Namespace, PodName: pod.Name, PodUID: pod.UID}
	c.mu.Unlock()
	c.Changed()
	return job, token
}

// keptFailures is how many failed Jobs of a ScaledJob KEDA keeps (failedJobsHistoryLimit).
const keptFailures = 2

// FinishJob records that a Job's pod has ended.
func (c *Cluster) FinishJob(uid string, succeeded bool) {
	c.finish(uid, succeeded, fleet.Cause{Reason: "Error", Message: "container runner: exit code 1"})
}

// FailJob records that a Job's pod has failed, and why.
func (c *Cluster) FailJob(uid string, cause fleet.Cause) { c.finish(uid, false, cause) }

func (c *Cluster) finish(uid string, succeeded bool, cause fleet.Cause) {
	c.mu.Lock()
	job, unfinished := c.jobs[uid]
	if !unfinished { // the Job was deleted, and now its pod has ended
		pod := c.orphaned[uid]
		job.Pod = &pod
	}
	delete(c.jobs, uid)
	delete(c.orphaned, uid)
	maps.DeleteFunc(c.tokens, func(_ string, id registrar.Identity) bool { return job.Pod != nil && id.PodUID == job.Pod.UID })
	group := c.scaledJobs[job.ScaledJobUID].GroupKey
	switch {
	case unfinished && succeeded:
		c.completed[group]++
	case unfinished:
		c.failed[group]++
		now := time.Now()
		job.Failed = &fleet.Failure{On: now, Lived: now.Sub(job.CreatedOn), Disrupted: job.Pod.Deleting, Cause: cause}
		kept := append(slices.Clone(c.kept[job.ScaledJobUID]), job)
		c.kept[job.ScaledJobUID] = kept[max(0, len(kept)-keptFailures):]
	}
	c.mu.Unlock()
	c.Changed()
}

// DeleteJob implements reaper.Jobs. The Job disappears at once. Its pod disappears when
// its containers have ended.
func (c *Cluster) DeleteJob(_ context.Context, _, _, uid string) error {
	c.mu.Lock()
	job, ok := c.jobs[uid]
	if ok && job.Pod != nil {
		pod := *job.Pod
		pod.Deleting = true
		c.orphaned[uid], job.Pod = pod, &pod
	}
	delete(c.jobs, uid)
	c.mu.Unlock()
	if ok {
		c.Changed()
		c.Removed(*job.Pod)
	}
	return nil
}

// DeleteUnchangedJob implements reaper.Jobs.
func (c *Cluster) DeleteUnchangedJob(ctx context.Context, job fleet.Job) (deleted bool, err error) {
	c.mu.Lock()
	present, ok := c.jobs[job.UID]
	c.mu.Unlock()
	if ok && present.ResourceVersion != job.ResourceVersion {
		return false, nil
	}
	return true, c.DeleteJob(ctx, job.Namespace, job.Name, job.UID)
}

// DeletePod deletes the pod of a Job, as an eviction does. The Job stays until its pod
// has ended.
func (c *Cluster) DeletePod(jobUID string) {
	c.change(jobUID, func(job *fleet.Job) { job.Pod.Deleting = true })
	c.mu.Lock()
	job, ok := c.jobs[jobUID]
	c.mu.Unlock()
	if ok {
		c.Removed(*job.Pod)
	}
}

// Change gives a ScaledJob another generation, so that its Jobs become outdated, and
// changes these settings in its trigger's metadata.
func (c *Cluster) Change(uid, generation string, settings map[string]string) fleet.ScaledJob {
	c.mu.Lock()
	scaledJob := c.scaledJobs[uid]
	scaledJob.Generation = generation
	scaledJob.Metadata = maps.Clone(scaledJob.Metadata)
	maps.Copy(scaledJob.Metadata, settings)
	c.scaledJobs[uid] = scaledJob
	c.mu.Unlock()
	c.Changed()
	return scaledJob
}

// Schedule assigns the pod of a Job to a node.
func (c *Cluster) Schedule(jobUID, node string) {
	c.change(jobUID, func(job *fleet.Job) { job.Pod.Node, job.Pod.ScheduledOn = node, time.Now() })
}

// StartSidecar records that the sidecar of a Job's pod has started.
func (c *Cluster) StartSidecar(jobUID string) {
	c.change(jobUID, func(job *fleet.Job) { job.Pod.SidecarOn = time.Now() })
}

// StartRunner records that the runner container of a Job's pod has started.
func (c *Cluster) StartRunner(jobUID string) {
	c.change(jobUID, func(job *fleet.Job) { job.Pod.RunnerOn = time.Now() })
}

// Wait gives the pod of a Job a cause for which it does not run.
func (c *Cluster) Wait(jobUID string, cause fleet.Cause) {
	c.change(jobUID, func(job *fleet.Job) { job.Pod.Waits = cause })
}

// Drain asks that the runner of a Job ends, as runnerctl drain does.
func (c *Cluster) Drain(jobUID string) { c.change(jobUID, func(job *fleet.Job) { job.Drain = true }) }

// Hide removes a Job and its pod from what the watch shows, like a watch that lags.
func (c *Cluster) Hide(jobUID string) {
	c.mu.Lock()
	c.hidden[jobUID] = struct{}{}
	c.mu.Unlock()
	c.Changed()
}

// change replaces a Job and its pod with changed copies. Jobs that were returned before
// stay unchanged.
func (c *Cluster) change(jobUID string, apply func(*fleet.Job)) {
	c.mu.Lock()
	if job, ok := c.jobs[jobUID]; ok {
		pod := *job.Pod
		job.Pod = &pod
		apply(&job)
		job.ResourceVersion = uuid.NewString()
		c.jobs[jobUID] = job
	}
	c.mu.Unlock()
	c.Changed()
}

// JobsOf returns the unfinished Jobs of a ScaledJob.
func (c *Cluster) JobsOf(scaledJobUID string) []fleet.Job {
	return slices.DeleteFunc(c.Unfinished(), func(job fleet.Job) bool { return job.ScaledJobUID != scaledJobUID })
}

// Finished counts the Jobs that have ended.
func (c *Cluster) Finished() (completed, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.completed {
		completed += n
	}
	for _, n := range c.failed {
		failed += n
	}
	return completed, failed
}

// EventsSeen returns the Events so far.
func (c *Cluster) EventsSeen() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// ScaledJobs implements fleet.Kubernetes.
func (c *Cluster) ScaledJobs() []fleet.ScaledJob {
	c.mu.Lock()
	defer c.mu.Unlock()
	return lasting(&c.shown.scaledJobs, slices.Collect(maps.Values(c.scaledJobs)), func(s fleet.ScaledJob) string { return s.UID })
}

// Jobs implements fleet.Kubernetes.
func (c *Cluster) Jobs() []fleet.Job {
	jobs := c.Unfinished()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kept := range c.kept {
		jobs = append(jobs, kept...)
	}
	return lasting(&c.shown.jobs, jobs, func(job fleet.Job) string { return job.UID })
}

// Unfinished returns the Jobs that the watch shows and that have not ended.
func (c *Cluster) Unfinished() []fleet.Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(c.jobs)), func(job fleet.Job) bool {
		_, hidden := c.hidden[job.UID]
		return hidden
	})
}

// Pods implements fleet.Kubernetes.
func (c *Cluster) Pods() []fleet.Pod {
	pods := c.podsOf(c.Unfinished())
	c.mu.Lock()
	defer c.mu.Unlock()
	return lasting(&c.shown.pods, pods, func(pod fleet.Pod) string { return pod.UID })
}

func (c *Cluster) podsOf(jobs []fleet.Job) []fleet.Pod {
	pods := make([]fleet.Pod, 0, len(jobs))
	for _, job := range jobs {
		pods = append(pods, *job.Pod)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.AppendSeq(pods, maps.Values(c.orphaned))
}

// LivePods implements reaper.Pods.
func (c *Cluster) LivePods(context.Context) ([]fleet.Pod, error) {
	c.mu.Lock()
	jobs := slices.Collect(maps.Values(c.jobs))
	c.mu.Unlock()
	return c.podsOf(jobs), nil
}

// Review implements registrar.TokenReviewer.
func (c *Cluster) Review(_ context.Context, token string) (registrar.Identity, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	identity, ok := c.tokens[token]
	if !ok {
		return registrar.Identity{}, fmt.Errorf("%w: unknown", registrar.ErrToken)
	}
	return identity, nil
}

// Event implements reaper.Events.
func (c *Cluster) Event(group fleet.GroupKey, _ string, event reaper.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, Event{Group: group, Reason: event.Reason, Message: event.Message})
}
