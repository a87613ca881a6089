package controlplane

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// nudges are when each group was nudged.
type nudges map[string][]time.Duration

func (n nudges) at(begun time.Time) Nudger { return nudgedAt{n, begun} }

type nudgedAt struct {
	nudges
	begun time.Time
}

func (n nudgedAt) Nudge(_ context.Context, key fleet.GroupKey) error {
	n.nudges[key.Name] = append(n.nudges[key.Name], time.Since(n.begun))
	return nil
}

func TestKEDAIsMadeToLookAtGroupsThatItDoesNotAskFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		group := func(name string, polling time.Duration, edit func(*fleet.ScaledJob)) fleet.ScaledJob {
			s := fleet.ScaledJob{GroupKey: fleet.GroupKey{Namespace: "team", Name: name}, PollingInterval: polling, Metadata: map[string]string{"enableTLS": "true"}}
			if edit != nil {
				edit(&s)
			}
			return s
		}
		const lost = 10 * time.Minute // since then KEDA asks no more for those that it lost
		all := []fleet.ScaledJob{
			group("never asked for", 30*time.Second, nil),
			group("asked for", time.Minute, nil),
			group("lost", 10*time.Second, nil),
			group("lost, seldom asked for", 5*time.Minute, nil),
			group("paused", time.Second, func(s *fleet.ScaledJob) { s.Hold = "paused" }),
			group("plain text", time.Second, func(s *fleet.ScaledJob) { s.Metadata = nil }),
		}
		asked := func(key fleet.GroupKey) time.Time {
			for _, s := range all {
				since := time.Since(begun)
				if s.Name == "lost" || s.Name == "lost, seldom asked for" {
					since = min(since, lost)
				}
				if s.GroupKey == key && s.Name != "never asked for" && s.Hold == "" {
					return begun.Add(since.Truncate(s.PollingInterval))
				}
			}
			return time.Time{}
		}
		found := nudges{}
		n := nudging{groups: func() []fleet.ScaledJob { return all }, asked: asked, nudger: found.at(begun), log: zap.NewNop()}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		n.run(ctx)
		for name, first := range map[string]time.Duration{
			"never asked for":        nudgeFirst,
			"lost":                   lost + quietLeast + nudgeFirst,
			"lost, seldom asked for": lost + 3*5*time.Minute + nudgeFirst,
		} {
			times := found[name]
			if len(times) < 3 || times[0] < first || times[0] > first+2*nudgeLook {
				t.Errorf("%s: nudged after %v, want first after %v", name, times, first)
			}
			for i := 1; i < len(times); i++ {
				if wait := times[i] - times[i-1]; wait < nudgeFirst || wait > nudgeMost+nudgeLook {
					t.Errorf("%s: nudged after %v", name, times)
				}
			}
			delete(found, name)
		}
		if len(found) > 0 {
			t.Errorf("nudged without need: %v", found)
		}
	})
}
