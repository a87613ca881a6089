package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// rebuildEvery bounds how long a change that only time brings (a runner lost, a
// list too old) stays unseen.
const rebuildEvery = time.Second

// Fleet is the observed runners and Jobs of all scopes. Safe for concurrent use.
type Fleet struct {
	config    Config
	telemetry *telemetry
	snapshot  atomic.Pointer[snapshot]
	dirty     chan struct{}

	mu      sync.Mutex
	changed chan struct{}
	scopes  map[scopeKey]*runningScope
	// called are the groups known from calls alone, without Kubernetes.
	called map[GroupKey]calledGroup
	idle   map[string]time.Time // by runner UUID: idle since
	poll   context.Context      //nolint:containedctx // the life of Run, which scopes found later must not outlive
	polls  sync.WaitGroup
}

type scopeKey struct {
	credentials string
	scope       bitbucket.Scope
}

type runningScope struct {
	*Scope
	cancel context.CancelFunc
}

type calledGroup struct {
	spec runnergroup.Group
	at   time.Time
}

// snapshot is everything as of one moment.
type snapshot struct {
	groups map[GroupKey]*Group
	errs   map[GroupKey]error
	scopes []*Scope
	pods   map[string]podPlace
	names  map[string]struct{}
}

type podPlace struct {
	group  GroupKey
	member int
}

// New makes a Fleet; Run makes it live. The error lists every fault of config.
func New(config Config) (*Fleet, error) {
	config = config.withDefaults()
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	f := &Fleet{
		config: config, telemetry: newTelemetry(), dirty: make(chan struct{}, 1), changed: make(chan struct{}),
		scopes: map[scopeKey]*runningScope{}, called: map[GroupKey]calledGroup{}, idle: map[string]time.Time{},
	}
	f.snapshot.Store(&snapshot{})
	return f, nil
}

// Run keeps the snapshot current until ctx ends, and then waits for its polls.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	f.mu.Lock()
	f.poll = ctx
	f.mu.Unlock()
	defer f.polls.Wait()
	defer cancel()
	ticker := f.config.Clock.NewTicker(rebuildEvery)
	defer ticker.Stop()
	for {
		f.rebuild()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		case <-f.dirty:
		}
	}
}

// Changed asks for a new snapshot: something in Kubernetes is no longer as it was.
func (f *Fleet) Changed() {
	select {
	case f.dirty <- struct{}{}:
	default:
	}
}

// Wait gives a channel that is closed when the next snapshot stands.
func (f *Fleet) Wait() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// rebuild joins all that is known into the next snapshot.
func (f *Fleet) rebuild() {
	now := f.config.Clock.Now()
	next := &snapshot{groups: map[GroupKey]*Group{}, errs: map[GroupKey]error{}, pods: map[string]podPlace{}, names: map[string]struct{}{}}
	live := map[string]struct{}{}
	if f.config.Kubernetes != nil {
		f.groupsOfKubernetes(next, live)
	} else {
		f.groupsOfCalls(next, now)
	}
	f.setAside(next)
	f.telemetry.keep(live)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.trackIdle(next, now)
	for key, scope := range f.scopes {
		scope.mu.Lock()
		unused := now.Sub(scope.lastUse) > f.config.IdleScope
		scope.mu.Unlock()
		if unused {
			scope.cancel()
			delete(f.scopes, key)
			continue
		}
		next.scopes = append(next.scopes, scope.Scope)
	}
	f.snapshot.Store(next)
	close(f.changed)
	f.changed = make(chan struct{})
}

// groupsOfKubernetes reads the groups from their ScaledJobs and joins each with
// its Jobs, their pods, and the runners named after those.
func (f *Fleet) groupsOfKubernetes(next *snapshot, live map[string]struct{}) {
	jobs := map[string][]Job{}
	for _, job := range f.config.Kubernetes.Jobs() {
		jobs[job.ScaledJobUID] = append(jobs[job.ScaledJobUID], job)
		if job.Pod != nil {
			live[job.Pod.UID] = struct{}{}
			next.names[RunnerName(job.Pod.Name, job.Pod.UID)] = struct{}{}
		}
	}
	scaledJobs := slices.Clone(f.config.Kubernetes.ScaledJobs())
	slices.SortFunc(scaledJobs, func(a, b ScaledJob) int { // the older of two duplicates stays
		if c := a.CreatedOn.Compare(b.CreatedOn); c != 0 {
			return c
		}
		return cmpKey(a.GroupKey, b.GroupKey)
	})
	var accepted []*Group
	for _, scaledJob := range scaledJobs {
		group, err := f.group(scaledJob.GroupKey, scaledJob.Metadata)
		if err == nil {
			for _, other := range accepted {
				if other.Scope == group.Scope && other.Spec.SameRunners(group.Spec) {
					err = &DuplicateError{Other: other.GroupKey}
				}
			}
		}
		if err != nil {
			next.errs[scaledJob.GroupKey] = err
			continue
		}
		accepted = append(accepted, group)
		group.UID, group.Hold = scaledJob.UID, scaledJob.Hold
		view := group.Scope.view()
		f.join(group, jobs[scaledJob.UID], view)
		for i, member := range group.Members {
			if member.Job.Pod != nil {
				next.pods[member.Job.Pod.UID] = podPlace{group: group.GroupKey, member: i}
			}
		}
		next.groups[group.GroupKey] = group
	}
}

// group parses a trigger's metadata and finds its scope.
func (f *Fleet) group(key GroupKey, metadata map[string]string) (*Group, error) {
	spec, err := runnergroup.Parse(metadata)
	if err != nil {
		return nil, err
	}
	scope, err := f.scope(key, spec)
	if err != nil {
		return nil, err
	}
	return &Group{GroupKey: key, Spec: spec, Scope: scope}, nil
}

// scope finds or starts the poller of a group's scope.
func (f *Fleet) scope(key GroupKey, spec runnergroup.Group) (*Scope, error) {
	client, err := f.config.Client(spec.Credentials, key.Namespace)
	if err != nil {
		return nil, err
	}
	written := bitbucket.Scope{Workspace: spec.Workspace, Repository: spec.Repository}
	id := scopeKey{credentials: spec.Credentials, scope: written}
	f.mu.Lock()
	defer f.mu.Unlock()
	running, ok := f.scopes[id]
	if !ok {
		if f.config.Kubernetes == nil && len(f.scopes) >= f.config.MaxScopes {
			return nil, fmt.Errorf("%d scopes are served already: %w", len(f.scopes), ErrTooManyScopes)
		}
		running = f.start(id, client)
	}
	running.mu.Lock()
	running.lastUse = f.config.Clock.Now()
	running.client = client // rotated credentials take effect at once
	resolved := running.resolved
	running.mu.Unlock()
	// A slug and a UUID are one scope: all share the first that resolved to it.
	if resolved.Workspace != "" {
		for other, candidate := range f.scopes {
			if other.credentials == id.credentials && other != id && candidate.Resolved() == resolved && other.before(id) {
				return candidate.Scope, nil
			}
		}
	}
	return running.Scope, nil
}

// start makes a scope and, while Run lasts, polls it. Called locked.
func (f *Fleet) start(id scopeKey, client Bitbucket) *runningScope {
	scope := newScope(id.credentials, id.scope, client, f.config, f.Changed)
	ctx, cancel := context.WithCancel(f.poll)
	running := &runningScope{Scope: scope, cancel: cancel}
	f.scopes[id] = running
	f.polls.Go(func() { scope.run(ctx) })
	return running
}

func (k scopeKey) before(other scopeKey) bool {
	return k.scope.String() < other.scope.String()
}

// groupsOfCalls makes the groups that were called for lately, of the runners
// with exactly their labels.
func (f *Fleet) groupsOfCalls(next *snapshot, now time.Time) {
	f.mu.Lock()
	maps.DeleteFunc(f.called, func(_ GroupKey, c calledGroup) bool { return now.Sub(c.at) > f.config.IdleScope })
	called := maps.Clone(f.called)
	f.mu.Unlock()
	for key, call := range called {
		scope, err := f.scope(key, call.spec)
		if err != nil {
			next.errs[key] = err
			continue
		}
		group := &Group{GroupKey: key, Spec: call.spec, Scope: scope}
		view := scope.view()
		group.ListBegun = view.begun
		want := call.spec.RunnerLabels(f.config.Owner)
		for _, runner := range view.runners {
			if sameLabels(runner.Labels, want) {
				group.Members = append(group.Members, f.member(nil, &runner, view))
			}
		}
		f.count(group, view)
		next.groups[key] = group
	}
}

// join fills in a group's members: one for each unfinished Job.
func (f *Fleet) join(group *Group, jobs []Job, view scopeView) {
	byName := make(map[string]*bitbucket.Runner, len(view.runners))
	for i := range view.runners {
		if f.config.Ours(view.runners[i]) {
			byName[view.runners[i].Name] = &view.runners[i]
		}
	}
	group.ListBegun = view.begun
	for i := range jobs {
		var runner *bitbucket.Runner
		if pod := jobs[i].Pod; pod != nil {
			runner = byName[RunnerName(pod.Name, pod.UID)]
		}
		group.Members = append(group.Members, f.member(&jobs[i], runner, view))
	}
	f.count(group, view)
}

func (f *Fleet) member(job *Job, runner *bitbucket.Runner, view scopeView) Member {
	m := Member{Job: job, Runner: runner}
	var told bool
	if job != nil && job.Pod != nil {
		m.Name = RunnerName(job.Pod.Name, job.Pod.UID)
		m.Telemetry, told = f.telemetry.get(job.Pod.UID)
	}
	serverNow := view.serverDate.Add(f.config.Clock.Since(view.begun))
	if runner != nil {
		m.Name = runner.Name
		m.Age = serverNow.Sub(runner.CreatedOn)
	}
	m.State = classify(&m, told, view.stepSeen, view.begun, serverNow)
	return m
}

// count makes the observation that the rules are applied to.
func (f *Fleet) count(group *Group, view scopeView) {
	group.Observation = observe(group.Members)
	registered := 0
	for _, member := range group.Members {
		if member.Runner != nil {
			registered++
		}
	}
	group.Observation.OtherRegistered = len(view.runners) - registered
}

// setAside takes the unfilled minimum of each group off the others' room.
func (f *Fleet) setAside(next *snapshot) {
	unfilled := map[*Scope]int{}
	own := map[*Group]int{}
	for _, group := range next.groups {
		own[group] = max(0, group.Spec.Rules.Min-group.Observation.Capacity())
		unfilled[group.Scope] += own[group]
	}
	for _, group := range next.groups {
		group.Observation.OtherUnfilledMin = unfilled[group.Scope] - own[group]
	}
}

// trackIdle remembers since when each runner has been idle. Called locked.
func (f *Fleet) trackIdle(next *snapshot, now time.Time) {
	idle := map[string]time.Time{}
	for _, group := range next.groups {
		for i := range group.Members {
			m := &group.Members[i]
			if m.State != Idle || m.Runner == nil {
				continue
			}
			since, ok := f.idle[m.Runner.UUID]
			if !ok {
				since = now
			}
			idle[m.Runner.UUID], m.IdleSince = since, since
		}
	}
	f.idle = idle
}

func cmpKey(a, b GroupKey) int {
	if c := compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return compare(a.Name, b.Name)
}
