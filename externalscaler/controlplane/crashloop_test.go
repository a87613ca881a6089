package controlplane_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/reaper"
)

// The hour of a group whose runners exit at once, beside a healthy one with the same
// credentials in the same workspace.
const (
	loopMin = 5
	// mostTries is how many Jobs the failing group may get in an hour: all of its minimum
	// once, and one after 10, 20, … 320 s, then every 10 min.
	mostTries = loopMin + 13
	// mostCalls bounds the calls to Bitbucket of both groups in the hour: 60 lists, five
	// calls for each runner's life, and what the healthy group needs.
	mostCalls = 60 + 5*mostTries + 60
)

// reactions are, for each burst of steps of the healthy group, the times until KEDA had
// created Jobs for it and until their runners were registered.
type reactions struct{ created, registered []time.Duration }

// healthyHour lets the steps of an hour come to the healthy group.
func healthyHour(s *simulation) (all reactions) {
	for at := 8 * time.Minute; at < time.Hour; at += 13*time.Minute + 7*time.Second {
		s.after(at)
		s.step("healthy", 3*time.Minute)
		s.sleep(2 * time.Minute)
		since := func(times []time.Duration) time.Duration {
			i, _ := slices.BinarySearch(times, at)
			if i == len(times) {
				return -1
			}
			return times[i] - at
		}
		all.created = append(all.created, since(s.times(s.created, "healthy")))
		all.registered = append(all.registered, since(s.times(s.registered, "healthy")))
	}
	s.after(time.Hour)
	return all
}

func TestAFailingGroupChangesNothingForItsNeighbours(t *testing.T) {
	healthy := map[string]string{"min": "1", "max": "10"}
	var alone reactions
	synctest.Test(t, func(t *testing.T) {
		simulate(t, zap.NewNop(), func(s *simulation) {
			s.apply("healthy", healthy)
			alone = healthyHour(s)
			s.calls()
		})
	})
	if slices.Contains(alone.created, -1) || len(alone.created) < 4 {
		t.Fatalf("the healthy group does not react to steps: %v", alone)
	}
	for name, mend := range map[string]func(*simulation, string){
		"mended by a change of the ScaledJob":         func(s *simulation, uid string) { s.cluster.Change(uid, "2", nil) },
		"mended by another image behind the same tag": func(*simulation, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				simulate(t, zap.NewNop(), func(s *simulation) {
					s.apply("healthy", healthy)
					s.broken["failing"] = true
					failing := s.apply("failing", map[string]string{"min": "5", "max": "5"})
					beside := healthyHour(s)
					if !slices.Equal(beside.created, alone.created) || !slices.Equal(beside.registered, alone.registered) {
						t.Errorf("the healthy group reacted within %v, want %v as it does alone", beside, alone)
					}
					if n := s.calls(); n > mostCalls {
						t.Errorf("%d calls to Bitbucket in the hour, want at most %d", n, mostCalls)
					}
					checkLoop(t, s, failing.UID)

					s.mu.Lock()
					s.broken["failing"] = false
					s.mu.Unlock()
					mend(s, failing.UID)
					recovered, waiting := time.Duration(0), true // of a step
					for ; len(s.onlineOf("failing")) < loopMin && recovered < time.Hour; recovered += time.Second {
						if waiting && len(s.onlineOf("failing")) > 0 {
							waiting = false
							s.step("failing", time.Minute)
						}
						s.sleep(time.Second)
					}
					if t.Logf("recovered after %v, %d calls", recovered, s.calls()); recovered > 10*time.Minute {
						t.Errorf("all %d runners are online %v after the group was mended, want 10 min at most", loopMin, recovered)
					}
				})
			})
		})
	}
}

// checkLoop checks what the failing group did in the hour, and what its users see.
func checkLoop(t *testing.T, s *simulation, uid string) {
	t.Helper()
	if n := len(s.times(s.created, "failing")); n > mostTries || n < loopMin+5 {
		t.Errorf("KEDA created %d Jobs for the failing group, want at most %d", n, mostTries)
	}
	if n := len(s.cluster.JobsOf(uid)); n > 1 {
		t.Errorf("%d Jobs of the failing group wait, want one at most", n)
	}
	if target, reason := s.shown("failing"); reason != "CrashLoop" || target > 1 {
		t.Errorf("/status shows the target %d because of %s", target, reason)
	}
	told := 0
	for _, event := range s.cluster.EventsSeen() {
		if event.Reason == reaper.ReasonCrashLoop && event.Group.Name == "failing" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the users are told %d times, want once: %v", told, s.cluster.EventsSeen())
	}
}
