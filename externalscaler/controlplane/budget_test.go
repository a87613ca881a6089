package controlplane_test

import (
	"math"
	"net/http"
	"strconv"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/reaper"
)

// forecast is what lint expects of scopes, the first of which has so many lives per hour.
func forecast(scopes int, lives float64) bitbucket.Forecast {
	demand := bitbucket.Demand{PollInterval: time.Minute, Lives: map[string]float64{}}
	for i := range scopes {
		demand.Lives[strconv.Itoa(i)] = 0
	}
	demand.Lives["0"] = lives
	return demand.Forecast(1000)
}

// callsOf returns the calls per hour that are made of those that a forecast wants.
func callsOf(f bitbucket.Forecast) float64 {
	return min(f.Others, f.MostOthers) + min(f.Lists, max(1000*(1-bitbucket.DefaultReserve)-f.Others, 1000-f.MostOthers))
}

// agrees checks that the calls within an hour are those of the forecast, within a tenth.
func agrees(t *testing.T, calls int, f bitbucket.Forecast) {
	t.Helper()
	if want := callsOf(f); math.Abs(float64(calls)/want-1) > 0.1 {
		t.Errorf("%d calls in an hour, lint expects %.0f", calls, want)
	}
}

// quiet checks that no call was refused and no group was without a fresh list.
func (w *world) quiet() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.server.State().Counters.TooManyRequests; n > 0 || len(w.stale) > 0 {
		w.t.Errorf("%d calls were refused with 429, stale groups: %v", n, w.stale)
	}
}

// during returns how many calls are made within a time.
func (w *world) during(d time.Duration) int {
	before, _ := w.calls()
	time.Sleep(d)
	after, _ := w.calls()
	return after - before
}

// scopes applies a group in each of so many workspaces. Their Jobs are never made.
func (w *world) scopes(n int) {
	for i := range n {
		w.apply("g"+strconv.Itoa(i), "w"+strconv.Itoa(i), nil, nil)
	}
}

func TestEveryGroupIsFreshThoughItsScopeIsListedLessOften(t *testing.T) {
	for _, scopes := range []int{1, 10, 20} {
		t.Run(strconv.Itoa(scopes), func(t *testing.T) {
			t.Parallel()
			virtually(t, scopes, func(w *world) {
				w.scopes(scopes)
				time.Sleep(10 * time.Minute)
				agrees(t, w.during(time.Hour), forecast(scopes, 0))
				w.quiet()
				w.listedEvery(forecast(scopes, 0).Interval, 0.1)
				said := 0
				for _, event := range w.cluster.EventsSeen() {
					if event.Reason == reaper.ReasonListsStretched {
						said++
					}
				}
				if want := map[int]int{20: 20}[scopes]; said != want {
					t.Errorf("%d Events say that lists are stretched, want %d: one per group that is affected", said, want)
				}
			})
		})
	}
}

// The first lists, all at once, are part of the first hour, so that the intervals are
// even longer in it.
func TestEveryGroupIsFreshInTheFirstHourOfManyScopes(t *testing.T) {
	for _, scopes := range []int{50, 100} {
		t.Run(strconv.Itoa(scopes), func(t *testing.T) {
			t.Parallel()
			interval := forecast(scopes, 0).Interval
			virtually(t, scopes, func(w *world) {
				w.scopes(scopes)
				time.Sleep(4 * interval)
				w.quiet()
				w.listedEvery(interval, 0.35)
			}, func(w *world) { // nothing happens between two lists, so to look less often is enough
				w.polling, w.config.ReaperInterval = interval/2, interval/20
			})
		})
	}
}

// listedEvery checks that all scopes are listed at that interval, more or less a part.
func (w *world) listedEvery(interval time.Duration, part float64) {
	w.t.Helper()
	for _, group := range w.plane.Status().Groups() {
		if math.Abs(group.ListInterval/interval.Seconds()-1) > part {
			w.t.Errorf("%s is listed every %v s, lint expects %s", group.Name, group.ListInterval, interval)
		}
	}
}

// An outage must not cost more than lists do, so that it ends for the groups when it ends
// at Bitbucket.
func TestAnOutageDoesNotOutlastItself(t *testing.T) {
	t.Parallel()
	virtually(t, 20, func(w *world) {
		w.scopes(20)
		time.Sleep(20 * time.Minute)
		w.faults(emulator.FaultRule{Path: "/2.0/*", Status: http.StatusServiceUnavailable})
		agrees(t, w.during(40*time.Minute)*60/40, forecast(20, 0))
		w.faults()
		interval := forecast(20, 0).Interval
		time.Sleep(interval + interval/10)
		for _, group := range w.plane.Status().Groups() {
			if group.ListAge > 1.1*interval.Seconds() {
				t.Errorf("the list of %s is %.0f s old, an interval after the outage", group.Name, group.ListAge)
			}
		}
		w.forgive()
		agrees(t, w.during(time.Hour), forecast(20, 0))
		w.quiet()
	})
}

func TestARestartForgetsNoCall(t *testing.T) {
	t.Parallel()
	virtually(t, 20, func(w *world) {
		w.scopes(20)
		time.Sleep(50*time.Minute + 15*time.Second) // between two calls of KEDA
		first := w.during(0)
		for range 3 { // each would otherwise begin with 1,000 calls
			w.restart()
			first += w.during(10 * time.Minute)
		}
		time.Sleep(time.Minute)
		agrees(t, first*60/30, forecast(20, 0))
		w.quiet()
	})
}

func TestATypoCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	virtually(t, 10, func(w *world) {
		w.scopes(10)
		for i := range 3 {
			w.apply("typo"+strconv.Itoa(i), "wrong"+strconv.Itoa(i), nil, nil)
		}
		time.Sleep(20 * time.Minute)
		calls := w.during(time.Hour)
		agrees(t, calls, forecast(10, 0))
		w.forgive("typo0", "typo1", "typo2")
		w.quiet()
	})
}

func TestEphemeralRunnersCostWhatLintExpects(t *testing.T) {
	t.Parallel()
	virtually(t, 10, func(w *world) {
		w.scopes(10)
		w.apply("short", "w0", map[string]string{"ephemeral": "true", "min": "2"}, works)
		time.Sleep(10 * time.Minute)
		w.steps("w0", "short", 36*time.Second, 30*time.Second) // 100 per hour
		time.Sleep(20 * time.Minute)
		agrees(t, w.during(time.Hour), forecast(10, 100))
		w.quiet()
		// The last enabled runner stays enabled, so now and then a step finds no other one.
		if c := w.server.State().Counters; c.StepsFailedNoRunner+len(c.StepsLost) > 0 || c.RunnersReused > 2 {
			t.Errorf("%d steps found no runner, %d runners took two, lost %v", c.StepsFailedNoRunner, c.RunnersReused, c.StepsLost)
		}
	})
}

func TestACrashLoopCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	virtually(t, 10, func(w *world) {
		w.scopes(10)
		w.apply("good", "w1", map[string]string{"min": "2"}, works)
		w.apply("crashing", "w0", map[string]string{"min": "5"}, crashes)
		time.Sleep(20 * time.Minute)
		agrees(t, w.during(time.Hour), forecast(10, 6)) // one try per 10 minutes
		w.quiet()
	})
}
