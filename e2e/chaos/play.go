package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"bitbucket-runner-scaler/e2e/chaos/plan"
	"bitbucket-runner-scaler/e2e/chaos/round"
)

// stagger is the time between the starts of two rounds.
const stagger = 3 * time.Second

// tally sums up the rounds.
type tally struct {
	mu                                        sync.Mutex
	rounds, bad                               int
	steps, passed, stopped, noRunner, toKills int
	pods, scalers                             int
	faults                                    map[plan.Kind]int
	slowest                                   time.Duration // to be at rest
	phantom                                   time.Duration // the longest
	seeds                                     []uint64      // of bad rounds
}

// play runs the rounds, several at a time.
func play(ctx context.Context, suite *round.Suite, o options, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	seeds := make(chan uint64)
	go func() {
		defer close(seeds)
		for i := range o.rounds {
			if o.bound > 0 && time.Since(begun) > o.bound {
				return
			}
			select {
			case seeds <- o.seed + uint64(i):
			case <-ctx.Done():
				return
			}
			select { // rounds that start at the same time would slow each other down
			case <-time.After(stagger):
			case <-ctx.Done():
				return
			}
		}
	}()
	var shared sync.WaitGroup
	t := &tally{faults: map[plan.Kind]int{}}
	shared.Go(func() { restartAPI(ctx, suite, o, t, out) })
	var players sync.WaitGroup
	for range o.parallel {
		players.Go(func() {
			for seed := range seeds {
				t.one(ctx, suite, o, seed, out)
			}
		})
	}
	players.Wait()
	cancel()
	shared.Wait()
	t.print(out, o, time.Since(begun))
	if t.bad > 0 {
		return fmt.Errorf("%d of %d rounds failed: seeds %v", t.bad, t.rounds, t.seeds)
	}
	if t.rounds == 0 {
		return errors.New("no round was run")
	}
	return nil
}

// one runs one round and prints its result.
func (t *tally) one(ctx context.Context, suite *round.Suite, o options, seed uint64, out io.Writer) {
	p := o.plan(seed)
	record, err := suite.Play(ctx, p)
	if ctx.Err() != nil && err != nil {
		return // the result of an interrupted round means nothing
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rounds++
	t.steps += record.Steps
	t.passed += record.Passed
	t.stopped += record.Stopped
	t.noRunner += record.NoRunner
	t.toKills += record.LostToKills
	t.pods += record.Pods
	t.scalers += record.ScalerStarts
	t.slowest = max(t.slowest, record.Rest)
	t.phantom = max(t.phantom, record.Phantom)
	for kind, n := range record.Faults {
		t.faults[kind] += n
	}
	_, _ = fmt.Fprintln(out, record)
	if err == nil && len(record.Violations) == 0 {
		if !o.keep {
			_ = os.RemoveAll(record.Dir) // what stays is only in the way
		}
		return
	}
	t.bad++
	t.seeds = append(t.seeds, seed)
	if err != nil {
		_, _ = fmt.Fprintf(out, "seed %d: %v\n", seed, err)
	}
	_, _ = fmt.Fprintf(out, "its files are in %s; again: go run ./chaos -rate %d -queue=%v -seed %d\n%s", record.Dir, o.rate, o.queue, seed, p)
}

// restartAPI repeatedly kills and starts the API server while rounds run.
func restartAPI(ctx context.Context, suite *round.Suite, o options, t *tally, out io.Writer) {
	if o.restartAPI == 0 {
		return
	}
	ticker := time.NewTicker(o.restartAPI)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		suite.ControlPlane.StopAPIServer()
		if err := suite.ControlPlane.StartAPIServer(context.WithoutCancel(ctx)); err != nil {
			_, _ = fmt.Fprintln(out, "API server not started again:", err)
			return
		}
		t.mu.Lock()
		t.faults["API server restarted (under all rounds)"]++
		t.mu.Unlock()
	}
}

func (t *tally) print(out io.Writer, o options, took time.Duration) {
	_, _ = fmt.Fprintf(out, "\n%d rounds in %v with clocks %d times as fast: %d failed\n", t.rounds, took.Round(time.Second), o.rate, t.bad)
	_, _ = fmt.Fprintf(out, "%d steps: %d passed, %d stopped, %d found no runner, %d lost to the rounds' own kills; %d pods, %d starts of scalers; slowest to be at rest: %v; longest that a step counted as waiting and did not: %v\n",
		t.steps, t.passed, t.stopped, t.noRunner, t.toKills, t.pods, t.scalers, t.slowest.Round(time.Second), t.phantom.Round(time.Second))
	for _, kind := range append(plan.Kinds, "API server restarted (under all rounds)") {
		_, _ = fmt.Fprintf(out, "  %-40s %d\n", kind, t.faults[kind])
	}
}
