// Package round plays one round of chaos by its plan: real scalers, sidecars and
// stand-in runners as processes, with a clock of the round's own, on a real API
// server with real KEDA; the emulator in Bitbucket's place. When the faults are over
// it waits until all is at rest, and holds what the emulator and Kubernetes recorded
// against the invariants.
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

// Suite is what all rounds share.
type Suite struct {
	ControlPlane *cluster.ControlPlane
	Client       kubernetes.Interface
	Dynamic      dynamic.Interface
	// Programs has scaler, sidecar and bitbucket-emulator, built for package clock.
	Programs string
	// Dir takes the rounds' files, a folder each. Its path must be short.
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
	// scalerClock is what the scalers have: the same, until it is stepped.
	scalerClock *clock.Clock
	emulator    *process.Process
	control     *emulator.Control
	// bitbucket is the scalers' way to the emulator, service everybody's to the leader.
	bitbucket, service *network.Gate
	replicas           []*replica
	foreign            map[string]foreigner // by UUID
	began              time.Time            // of the load

	ruling sync.Mutex
	active map[int][]emulator.FaultRule // by number of the fault

	mu      sync.Mutex
	nodes   []*node.Node
	made    int // nodes so far
	record  Record
	killed  map[string]struct{} // UUIDs of runners that the round killed
	stopped map[string]struct{} // UUIDs of pipelines that it cancelled
}

// Play plays a round. The error says that it could not be played, or how it ended
// early; what it found is in the record.
func (s *Suite) Play(ctx context.Context, p plan.Plan) (Record, error) {
	r := &Round{
		suite: s, plan: p, id: fmt.Sprintf("r%d", p.Seed), log: s.Logger.With(zap.Uint64("seed", p.Seed)),
		active: map[int][]emulator.FaultRule{}, killed: map[string]struct{}{}, stopped: map[string]struct{}{},
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
	if err := r.chaos(ctx); err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	if err := r.leave(ctx); err != nil {
		return err
	}
	return r.judge(ctx)
}

// chaos plays load and faults until both are over.
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

// at waits for a time of the round's clock; false if ctx ended.
func (r *Round) at(ctx context.Context, at time.Duration) bool {
	return sleep(ctx, time.Until(r.began.Add(r.clock.Real(at))))
}

// pause waits for a time of the round's clock; false if ctx ended.
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

// lookEvery is how often a condition is looked at, in fact.
const lookEvery = 500 * time.Millisecond

// slack is added to every wait, in fact: a machine under load is slow by its own clock.
const slack = 2 * time.Minute

// until waits for a condition, for a time of the round's clock and some slack; its last
// reason is in the error.
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

// count books a fault.
func (r *Round) count(kind plan.Kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.Faults[kind]++
}

// note writes a line to the round's diary.
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

// since is how far the round is, by its clock.
func (r *Round) since() time.Duration {
	if r.began.IsZero() {
		return 0
	}
	return (time.Since(r.began) * time.Duration(r.plan.Rate)).Round(100 * time.Millisecond)
}
