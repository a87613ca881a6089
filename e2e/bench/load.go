package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"

	"bitbucket-runner-scaler/e2e/bench/bed"
)

// latencies are how long calls took, sorted.
type latencies []time.Duration

func (l latencies) at(percent float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(len(l)-1, int(percent/100*float64(len(l))))]
}

// oneCaller makes calls one after the other for a time, for each group in turn.
func oneCaller(ctx context.Context, client pb.ExternalScalerClient, groups []bed.Group, during time.Duration) (latencies, error) {
	var took latencies
	for begun, i := time.Now(), 0; time.Since(begun) < during; i++ {
		before := time.Now()
		if _, err := client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: groups[i%len(groups)].Ref}); err != nil {
			return nil, fmt.Errorf("GetMetrics of %s: %w", groups[i%len(groups)].Ref.GetName(), err)
		}
		took = append(took, time.Since(before))
	}
	return took, nil
}

// openLoop makes calls at a rate for a time, whether or not the ones before are answered. Each
// call's time runs from the moment at which it was due, so that a call that is made late because
// the machine is busy counts in full.
func openLoop(ctx context.Context, client pb.ExternalScalerClient, groups []bed.Group, perSecond int, during time.Duration) (latencies, error) {
	n := int(during.Seconds() * float64(perSecond))
	took, failures := make(latencies, n), make([]error, n)
	var calls sync.WaitGroup
	begun := time.Now()
	for i := range n {
		due := begun.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		if early := time.Until(due); early > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(early):
			}
		}
		calls.Go(func() {
			_, failures[i] = client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: groups[i%len(groups)].Ref})
			took[i] = time.Since(due)
		})
	}
	calls.Wait()
	if err := errors.Join(slices.DeleteFunc(failures, func(err error) bool { return err == nil })...); err != nil {
		return nil, fmt.Errorf("GetMetrics at %d calls per second: %w", perSecond, err)
	}
	slices.Sort(took)
	return took, nil
}

// window is what a process needed within a time.
type window struct {
	seconds, cpu, mallocs, builds, buildSeconds, calls float64
}

// measure measures a process while work runs.
func measure(ctx context.Context, gauge bed.Gauge, work func() error) (window, error) {
	before, err := gauge.Metrics(ctx)
	if err != nil {
		return window{}, err
	}
	begun := time.Now()
	if err := work(); err != nil {
		return window{}, err
	}
	after, err := gauge.Metrics(ctx)
	if err != nil {
		return window{}, err
	}
	delta := func(name string) float64 { return after[name] - before[name] }
	return window{
		seconds: time.Since(begun).Seconds(), cpu: delta("process_cpu_seconds_total"), mallocs: delta("go_memstats_mallocs_total"),
		builds:       delta("bitbucket_runner_scaler_snapshot_build_seconds_count"),
		buildSeconds: delta("bitbucket_runner_scaler_snapshot_build_seconds_sum"),
		calls:        delta("bitbucket_runner_scaler_api_requests_total"),
	}, nil
}

// rest waits, and does nothing.
func rest(ctx context.Context, d time.Duration) func() error {
	return func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
}
