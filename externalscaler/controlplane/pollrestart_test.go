package controlplane

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/reaper"
)

// restarts holds when each group's polling was restarted.
type restarts map[string][]time.Duration

func (r restarts) at(begun time.Time) PollRestarter { return restartedAt{r, begun} }

type restartedAt struct {
	restarts
	begun time.Time
}

func (r restartedAt) RestartPolling(_ context.Context, key fleet.GroupKey) error {
	r.restarts[key.Name] = append(r.restarts[key.Name], time.Since(r.begun))
	return nil
}

// advice holds when each group had an Event that tells to restart KEDA's operator.
type advice map[string][]time.Time

func (a advice) Event(key fleet.GroupKey, _ string, event reaper.Event) {
	if event.Reason == notPolled && event.Warning && strings.Contains(event.Message, "rollout restart deployment/keda-operator") {
		a[key.Name] = append(a[key.Name], time.Now())
	}
}

func TestPollingIsRestartedForGroupsThatKEDADoesNotPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		group := func(name string, polling time.Duration, edit func(*fleet.ScaledJob)) fleet.ScaledJob {
			s := fleet.ScaledJob{GroupKey: fleet.GroupKey{Namespace: "team", Name: name}, PollingInterval: polling, Metadata: map[string]string{"enableTLS": "true"}}
			if edit != nil {
				edit(&s)
			}
			return s
		}
		const lost = 10 * time.Minute // after this time KEDA no longer polls the lost groups
		all := []fleet.ScaledJob{
			group("never polled", 30*time.Second, nil),
			group("polled", time.Minute, nil),
			group("lost", 10*time.Second, nil),
			group("lost, rarely polled", 5*time.Minute, nil),
			group("paused", time.Second, func(s *fleet.ScaledJob) { s.Hold = "paused" }),
			group("plain text", time.Second, func(s *fleet.ScaledJob) { s.Metadata = nil }),
		}
		asked := func(key fleet.GroupKey) time.Time {
			for _, s := range all {
				since := time.Since(begun)
				if s.Name == "lost" || s.Name == "lost, rarely polled" {
					since = min(since, lost)
				}
				if s.GroupKey == key && s.Name != "never polled" && s.Hold == "" {
					return begun.Add(since.Truncate(s.PollingInterval))
				}
			}
			return time.Time{}
		}
		found := restarts{}
		told := advice{}
		n := pollWatch{groups: func() []fleet.ScaledJob { return all }, lastCall: asked, restarter: found.at(begun), events: told, log: zap.NewNop()}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		n.run(ctx)
		for name, first := range map[string]time.Duration{
			"never polled":        firstWait,
			"lost":                lost + minQuiet + firstWait,
			"lost, rarely polled": lost + 3*5*time.Minute + firstWait,
		} {
			times := found[name]
			if len(times) < 3 || times[0] < first || times[0] > first+2*checkInterval {
				t.Errorf("%s: restarted after %v, want first after %v", name, times, first)
			}
			for i := 1; i < len(times); i++ {
				if wait := times[i] - times[i-1]; wait < firstWait || wait > maxWait+checkInterval {
					t.Errorf("%s: restarted after %v", name, times)
				}
			}
			// Two restarts without a call, after which another one does not help.
			if since := told[name]; len(since) != 1 || len(times) < 3 || since[0].Sub(begun) != times[2] {
				t.Errorf("%s: told at %v to restart KEDA's operator, want once, with the third restart after %v", name, since, times)
			}
			delete(found, name)
			delete(told, name)
		}
		if len(told) > 0 {
			t.Errorf("told without a need: %v", told)
		}
		if len(found) > 0 {
			t.Errorf("restarted without a need: %v", found)
		}
	})
}

// forbidden is a PollRestarter that may not change ScaledJobs.
type forbidden struct{}

func (forbidden) RestartPolling(context.Context, fleet.GroupKey) error {
	return errors.New("scaledjobs.keda.sh is forbidden")
}

// written counts Events by reason.
type written map[string]int

func (w written) Event(_ fleet.GroupKey, uid string, event reaper.Event) {
	if uid == "uid" && event.Warning && strings.Contains(event.Message, "scaledjob builds -n team") {
		w[event.Reason]++
	}
}

func TestWithoutThePermissionAnEventSaysOnceHowToRestartThePolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := fleet.ScaledJob{GroupKey: fleet.GroupKey{Namespace: "team", Name: "builds"}, UID: "uid", Metadata: map[string]string{"enableTLS": "true"}}
		events := written{}
		var polled time.Time // never
		watch := pollWatch{
			groups: func() []fleet.ScaledJob { return []fleet.ScaledJob{group} }, lastCall: func(fleet.GroupKey) time.Time { return polled },
			restarter: forbidden{}, events: events, log: zap.NewNop(),
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		watch.run(ctx)
		if events[notPolled] != 1 {
			t.Errorf("Events: %v, want one %s in 20 minutes", events, notPolled)
		}
	})
}
