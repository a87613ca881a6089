package reaper

import (
	"context"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// Snapshots are the observed groups and runners.
type Snapshots interface {
	// Wait returns a channel that is closed when the next snapshot is in place.
	Wait() <-chan struct{}
	// Sync waits for a snapshot that shows all that was known when it was called.
	Sync(ctx context.Context) error
	Groups() []*fleet.GroupSnapshot
	// Group returns a group if its list is fresh enough to act on.
	Group(key fleet.GroupKey) (*fleet.GroupSnapshot, error)
	// OrphanedPods are the pods that belong to no group any more.
	OrphanedPods() []fleet.Member
	// Podless are our runners that no known pod is named after.
	Podless() []fleet.Podless
}

// Marks takes notes of what the reaper has begun.
type Marks interface {
	MarkStopping(podUID string)
	UnmarkStopping(podUID string)
	MarkReplaced(podUID string)
	UnmarkReplaced(podUID string)
}

// Decider says how many runners a group should have.
type Decider interface {
	Decide(key fleet.GroupKey) (policy.Decision, error)
}

// Writer removes runners.
type Writer interface {
	Disable(ctx context.Context, id scope.ID, runner bitbucket.Runner) error
	Delete(ctx context.Context, id scope.ID, runner bitbucket.Runner) error
	// WhileUnregistered calls do while nobody registers a runner in the scope, unless
	// one of that name exists already.
	WhileUnregistered(ctx context.Context, id scope.ID, name string, do func(context.Context) error) error
}

// Runners reads single runners.
type Runners interface {
	Recheck(ctx context.Context, id scope.ID, uuid string) (bitbucket.Runner, error)
	// Refresh asks for a list of the scope soon.
	Refresh(id scope.ID)
}

// Sidecars passes orders to the sidecars that are attached.
type Sidecars interface {
	// Stop orders a pod's sidecar to end its runner; false if it is not attached.
	Stop(podUID, reason string) bool
	// Drain tells it that its runner was disabled, for its log.
	Drain(podUID, reason string)
}

// Pods reads the runner pods live, not from a cache: a watch that lags must
// never make a runner look like an orphan.
type Pods interface {
	LivePods(ctx context.Context) ([]fleet.Pod, error)
}

// Jobs ends Jobs that nothing else would end.
type Jobs interface {
	// DeleteJob deletes the Job of that UID and its pod; one that is gone counts as
	// deleted.
	DeleteJob(ctx context.Context, namespace, name, uid string) error
	// DeleteUnchangedJob does so only if the Job is still as it was read; false if it
	// has changed, for example because its pod was created.
	DeleteUnchangedJob(ctx context.Context, job fleet.Job) (deleted bool, err error)
}

// Event is what the users of a ScaledJob are told. docs/observe.md lists all of them.
type Event struct {
	Reason, Message string
	// Warning is true if something is wrong, and false if it went as it should.
	Warning bool
	// Job is the Job that it is about, and is written on too; nil if it is about the group.
	Job *fleet.Job
}

// Events tells the users of a ScaledJob what was done and why. uid is that of the ScaledJob.
type Events interface {
	Event(group fleet.GroupKey, uid string, event Event)
}

// CrashLoops knows which groups' Jobs keep failing.
type CrashLoops interface {
	State(group *fleet.GroupSnapshot) crashloop.State
}

// Config is what a Reaper is made of.
type Config struct {
	Snapshots Snapshots
	Marks     Marks
	Decider   Decider
	Writer    Writer
	Runners   Runners
	Sidecars  Sidecars
	// Pods and Jobs are nil if there is no Kubernetes: then nothing is ever an
	// orphan, and no Job is deleted.
	Pods   Pods
	Jobs   Jobs
	Events Events
	// Store is nil if nothing is kept for the next leader.
	Store Store
	// CrashLoops is nil if no Events report crash loops.
	CrashLoops CrashLoops
	Limits
	// Interval is the longest time between two looks; each change of the fleet
	// brings one. Default 2 s.
	Interval time.Duration
	// PassTimeout bounds one pass over a group or a scope. Default 60 s.
	PassTimeout time.Duration
	// DryRun only says what would be done. Pods that are being deleted are still
	// drained: they end anyhow, and busy ones must not.
	DryRun bool
	// UnsafeScaleDown retires idle runners even if Bitbucket cannot disable them:
	// one that takes a step in that moment loses it.
	UnsafeScaleDown bool
	// Count is called once for each removal, with its reason.
	Count  func(reason string)
	Clock  clock.WithTicker
	Logger *zap.Logger
}

// Limits are how long something must have lasted before it is acted on.
type Limits struct {
	// OrphanGrace is how long a runner must have been without a pod in the sight of
	// this leader and, if there is a Store, of those before it. Default 5 min.
	OrphanGrace time.Duration
	// LostAfter is the same for one that is DISABLED if lists show no steps.
	// Default 5 min.
	LostAfter time.Duration
	// StepAssignDelay is how long a runner may take to learn of a step that was
	// assigned to it: if lists carry no steps, a disabled runner must have been idle,
	// by its own report, for that long. Default 35 s: it asks every 30 s.
	StepAssignDelay time.Duration
	// LostSight is how long, and over two lists at least, a runner must have looked
	// lost in this process's own sight: after an outage of Bitbucket all do for a
	// moment. A runner without a pod must have been so for that long. Default 1 min.
	LostSight time.Duration
	// StartLimit is how long a Job may go without asking for a runner once it has a
	// node, and how long one that was told to end may take. Default 10 min.
	StartLimit time.Duration
	// DetachedLimit is how long a sidecar must have been silent until its idle and
	// disabled runner is ended by deleting the Job. Default 2 min.
	DetachedLimit time.Duration
}

// def sets a duration that is not set.
func def(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

func (l Limits) withDefaults() Limits {
	def(&l.OrphanGrace, 5*time.Minute)
	def(&l.LostAfter, fleet.LostAfter)
	def(&l.StepAssignDelay, 35*time.Second)
	def(&l.LostSight, time.Minute)
	def(&l.StartLimit, fleet.StartLimit)
	def(&l.DetachedLimit, 2*time.Minute)
	return l
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	def(&c.Interval, 2*time.Second)
	def(&c.PassTimeout, time.Minute)
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Count == nil {
		c.Count = func(string) {}
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}
