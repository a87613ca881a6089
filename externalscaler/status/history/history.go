// Package history keeps a few numbers of each runner group over the last hours, for a chart. They
// are in memory alone: a new leader starts without any.
package history

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/pause"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

const (
	// Interval is the time between two samples.
	Interval = 30 * time.Second
	// Span is how far back they reach.
	Span = 6 * time.Hour
	// mostGroups bounds the memory: 720 samples of each group take 35 KiB.
	mostGroups = 500
)

// Groups returns the groups of now.
type Groups func() []api.Group

// History holds samples. It is safe for concurrent use.
type History struct {
	clock clock.WithTicker

	mu     sync.Mutex
	groups map[string][]sample
}

// sample has the numbers of one moment in little space: no number exceeds a few thousand.
type sample struct {
	at                            int64 // in Unix seconds
	queued, busy, online, desired uint16
}

// New returns an empty History.
func New(clk clock.WithTicker) *History {
	return &History{clock: clk, groups: map[string][]sample{}}
}

// Run takes a sample of all groups at each interval until ctx ends. What was taken before is
// forgotten, for another process may have led meanwhile.
func (h *History) Run(ctx context.Context, groups Groups) {
	h.mu.Lock()
	h.groups = map[string][]sample{}
	h.mu.Unlock()
	for {
		h.take(groups(), h.clock.Now())
		if !pause.For(ctx, h.clock, Interval, nil) {
			return
		}
	}
}

func (h *History) take(groups []api.Group, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := now.Add(-Span).Unix()
	for key, samples := range h.groups {
		first, _ := slices.BinarySearchFunc(samples, oldest, func(s sample, at int64) int { return int(s.at - at) })
		if first == len(samples) {
			delete(h.groups, key)
			continue
		}
		h.groups[key] = slices.Delete(samples, 0, first)
	}
	for _, g := range groups {
		if _, known := h.groups[g.Key()]; !known && len(h.groups) >= mostGroups || g.Decision == nil {
			continue
		}
		s := sample{at: now.Unix(), busy: small(g.Runners["busy"] + g.Runners["draining busy"]), online: small(g.Online()), desired: small(g.Decision.Effective)}
		if g.Queue != nil {
			s.queued = small(g.Queue.Queued)
		}
		h.groups[g.Key()] = append(h.groups[g.Key()], s)
	}
}

func small(n int) uint16 { return uint16(min(max(n, 0), 1<<16-1)) } //nolint:gosec // it is bounded

// Of returns the samples of a group, oldest first.
func (h *History) Of(group string) []api.Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	shown := make([]api.Sample, 0, len(h.groups[group]))
	for _, s := range h.groups[group] {
		shown = append(shown, api.Sample{Time: time.Unix(s.at, 0).UTC(), Queued: int(s.queued), Busy: int(s.busy), Online: int(s.online), Desired: int(s.desired)})
	}
	return shown
}

// All returns the sums over all groups, oldest first.
func (h *History) All() []api.Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	sums := map[int64]api.Sample{}
	for _, samples := range h.groups {
		for _, s := range samples {
			sum := sums[s.at]
			sum.Time = time.Unix(s.at, 0).UTC()
			sum.Queued, sum.Busy = sum.Queued+int(s.queued), sum.Busy+int(s.busy)
			sum.Online, sum.Desired = sum.Online+int(s.online), sum.Desired+int(s.desired)
			sums[s.at] = sum
		}
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b api.Sample) int { return a.Time.Compare(b.Time) })
}
