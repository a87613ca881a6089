package controlplane_test

import (
	"slices"
	"testing"
	"time"

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

// healthyHour lets the steps of an hour come to the healthy group, one for each of its
// runners. They come 2 to 14 s after KEDA's poll, and the runners poll Bitbucket 23 s after
// it, so that the steps are reported before KEDA's next poll. Without that, it would be up
// to the jitter of the lists whether KEDA learns of them then or 30 s later.
func healthyHour(w *world) (all reactions) {
	for at := 8*time.Minute + 2*time.Second; at < time.Hour; at += 13*time.Minute + 4*time.Second {
		w.after(at)
		w.queue("w0", "healthy", w.online("healthy"), 3*time.Minute)
		time.Sleep(2 * time.Minute)
		since := func(times []time.Duration) time.Duration {
			i, _ := slices.BinarySearch(times, at)
			if i == len(times) {
				return -1
			}
			return times[i] - at
		}
		all.created = append(all.created, since(w.times(w.created, "healthy")))
		all.registered = append(all.registered, since(w.times(w.registered, "healthy")))
	}
	w.after(time.Hour)
	return all
}

func TestAFailingGroupChangesNothingForItsNeighbours(t *testing.T) {
	t.Parallel()
	healthy := map[string]string{"min": "1", "max": "10"}
	var alone reactions
	virtually(t, 1, func(w *world) {
		w.apply("healthy", "w0", healthy, works)
		alone = healthyHour(w)
	})
	if slices.Contains(alone.created, -1) || len(alone.created) < 4 {
		t.Fatalf("the healthy group does not react to steps: %v", alone)
	}
	for name, mend := range map[string]func(*world, string){
		"mended by a change of the ScaledJob":         func(w *world, uid string) { w.cluster.Change(uid, "2", nil) },
		"mended by another image behind the same tag": func(*world, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			virtually(t, 1, func(w *world) {
				w.apply("healthy", "w0", healthy, works)
				failing := w.apply("failing", "w0", map[string]string{"min": "5", "max": "5"}, crashes)
				beside := healthyHour(w)
				if !slices.Equal(beside.created, alone.created) || !slices.Equal(beside.registered, alone.registered) {
					t.Errorf("the healthy group reacted within %v, want %v as it does alone", beside, alone)
				}
				if n, _ := w.calls(); n > mostCalls {
					t.Errorf("%d calls to Bitbucket in the hour, want at most %d", n, mostCalls)
				}
				checkLoop(t, w, failing.UID)

				w.live("failing", works)
				mend(w, failing.UID)
				recovered, waiting := time.Duration(0), true // of a step
				for n := 0; n < loopMin && recovered < time.Hour; recovered += time.Second {
					time.Sleep(time.Second)
					if n = w.online("failing"); waiting && n > 0 {
						waiting = false
						w.queue("w0", "failing", n, time.Minute)
					}
				}
				if recovered > 10*time.Minute {
					t.Errorf("all %d runners are online %v after the group was mended, want 10 min at most", loopMin, recovered)
				}
			})
		})
	}
}

// checkLoop checks what the failing group did in the hour, and what its users see.
func checkLoop(t *testing.T, w *world, uid string) {
	t.Helper()
	if n := len(w.times(w.created, "failing")); n > mostTries || n < loopMin+5 {
		t.Errorf("KEDA created %d Jobs for the failing group, want at most %d", n, mostTries)
	}
	if n := len(w.cluster.JobsOf(uid)); n > 1 {
		t.Errorf("%d Jobs of the failing group wait, want one at most", n)
	}
	if group := w.shown("failing"); group.Reason != "CrashLoop" || group.Target > 1 {
		t.Errorf("/status shows the target %d because of %s", group.Target, group.Reason)
	}
	if told := w.events("failing", reaper.ReasonCrashLoop); len(told) != 1 {
		t.Errorf("%d Events report the crash loop, want one: %v", len(told), w.cluster.EventsSeen())
	}
}
