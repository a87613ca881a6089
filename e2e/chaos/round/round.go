// Package round runs one round of chaos from its plan. Real scalers, sidecars and stand-in
// runners run as processes with the round's own clock, on a real API server with real
// KEDA. The emulator replaces Bitbucket. After the faults it waits until everything is at
// rest, and checks the invariants against the records of the emulator and Kubernetes.
package round

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/clock"
	"bitbucket-runner-scaler/e2e/chaos/network"
	"bitbucket-runner-scaler/e2e/chaos/node"
	"bitbucket-runner-scaler/e2e/chaos/plan"
	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/process"
)

// Suite contains what all rounds share.
type Suite struct {
	ControlPlane *cluster.ControlPlane
	Client       kubernetes.Interface
	Dynamic      dynamic.Interface
	// Programs contains scaler, sidecar and bitbucket-emulator, built for package clock.
	Programs string
	// Dir contains one directory per round. Its path must be short.
	Dir    string
	Logger *zap.Logger
}

// Round is one round.
type Round struct {
	suite *Suite
	plan  plan.Plan
	id    string
	dir   string
	log   *zap.Logger

	clock *clock.Clock
	// scalerClock is the scalers' clock. It is the same until it is stepped.
	scalerClock *clock.Clock
	emulator    *process.Process
	control     *emulator.Control
	// bitbucket forwards the scalers to the emulator. service forwards everyone to the
	// leader.
	bitbucket, service *network.Gate
	// hooks forwards deliveries of webhooks to the leader.
	hooks    *network.Gate
	watch    *watch
	replicas []*replica
	foreign  map[string]foreigner // by UUID
	began    time.Time            // of the load

	ruling sync.Mutex
	active map[int]injected // by number of the fault

	mu      sync.Mutex
	nodes   []*node.Node
	made    int // nodes so far
	record  Record
	killed  map[string]struct{} // UUIDs of runners that the round killed
	stopped map[string]struct{} // UUIDs of pipelines that it cancelled
	crashed []plan.Group        // beside those of the plan
}

// Play runs a round. It returns an error if the round could not be run or ended early. The
// record contains the result.
func (s *Suite) Play(ctx context.Context, p plan.Plan) (Record, error) {
	r := &Round{
		suite: s, plan: p, id: fmt.Sprintf("r%d", p.Seed), log: s.Logger.With(zap.Uint64("seed", p.Seed)),
		active: map[int]injected{}, watch: newWatch(), killed: map[string]struct{}{}, stopped: map[string]struct{}{},
	}
	r.dir = filepath.Join(s.Dir, r.id)
	r.record = Record{Seed: p.Seed, Dir: r.dir, Faults: map[plan.Kind]int{}}
	start := time.Now()
	err := r.play(ctx)
	r.record.Took = time.Since(start)
	return r.record, err
}

func (r *Round) play(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Join(r.dir, "logs"), 0o755); err != nil {
		return fmt.Errorf("round's folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "plan.txt"), []byte(r.plan.String()), 0o644); err != nil {
		return fmt.Errorf("round's plan: %w", err)
	}
	defer func() { err = errors.Join(err, r.strike(context.WithoutCancel(ctx))) }()
	if err := r.build(ctx); err != nil {
		return fmt.Errorf("build the stage: %w", err)
	}
	if err := r.ready(ctx); err != nil {
		return fmt.Errorf("before the load: %w", err)
	}
	r.began = time.Now()
	if err := r.watched(ctx); err != nil {
		return err
	}
	if err := r.leave(ctx); err != nil {
		return err
	}
	return r.judge(ctx)
}

// watched runs load and faults, and waits for rest, while it compares what the scaler shows of the
// queue with what waits.
func (r *Round) watched(ctx context.Context) error {
	watching, end := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { r.watchQueue(watching) })
	defer func() { end(); watcher.Wait() }()
	if err := r.chaos(ctx); err != nil {
		return err
	}
	return r.rest(ctx)
}

// chaos runs load and faults until both have ended.
func (r *Round) chaos(ctx context.Context) error {
	var all sync.WaitGroup
	for _, one := range r.plan.Pipelines {
		all.Go(func() { r.queue(ctx, one) })
	}
	for i, f := range r.plan.Faults {
		all.Go(func() { r.fail(ctx, i, f) })
	}
	all.Wait()
	if r.plan.HideStep {
		r.count(plan.HiddenSteps)
	}
	return ctx.Err()
}

// at waits until a time of the round's clock. It returns false if ctx ended.
func (r *Round) at(ctx context.Context, at time.Duration) bool {
	return sleep(ctx, time.Until(r.began.Add(r.clock.Real(at))))
}

// pause waits for a duration of the round's clock. It returns false if ctx ended.
func (r *Round) pause(ctx context.Context, d time.Duration) bool { return sleep(ctx, r.clock.Real(d)) }

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// lookEvery is the time between two polls of a condition, on the real clock.
const lookEvery = 500 * time.Millisecond

// slack is added to every wait, on the real clock, because a machine under load is slow.
const slack = 2 * time.Minute

// until waits for a condition, for a duration of the round's clock plus slack. The error
// contains the last reason.
func (r *Round) until(ctx context.Context, what string, patience time.Duration, look func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.clock.Real(patience)+slack)
	defer cancel()
	var last error
	for {
		err := look(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if !sleep(ctx, lookEvery) {
			return fmt.Errorf("waited for %s: %w", what, last)
		}
	}
}

// count records a fault.
func (r *Round) count(kind plan.Kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.Faults[kind]++
}

// note writes a line to the round's log.
func (r *Round) note(format string, args ...any) {
	line := fmt.Sprintf("%s %8s ", r.clock.Shown(time.Now()).UTC().Format("15:04:05.000"), r.since()) + fmt.Sprintf(format, args...) + "\n"
	r.mu.Lock()
	defer r.mu.Unlock()
	file, err := os.OpenFile(filepath.Join(r.dir, "diary.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		r.log.Warn("diary", zap.Error(err))
		return
	}
	_, _ = file.WriteString(line)
	_ = file.Close()
}

// since returns the time since the beginning of the round, on its clock.
func (r *Round) since() time.Duration {
	if r.began.IsZero() {
		return 0
	}
	return (time.Since(r.began) * time.Duration(r.plan.Rate)).Round(100 * time.Millisecond)
}
