package controlplane_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The bounds of the calls to Bitbucket: docs/benchmarks.md shows what these tests report.
const (
	// callsPerHour is one list of the runners per minute, and callsPerRunner to register, disable, read
	// and delete an ephemeral one.
	callsPerHour   = 60
	callsPerRunner = 4
)

func TestTenGroupsCostOneListPerMinute(t *testing.T) {
	virtually(t, 1, func(w *world) {
		for i := range 10 {
			w.apply("fleet-"+strconv.Itoa(i), "w0", map[string]string{"min": "10", "max": "10"}, works)
		}
		w.after(20 * time.Minute)
		if n := len(w.server.State().Runners); n != 100 {
			t.Fatalf("%d runners, want 100", n)
		}
		calls := w.during(time.Hour)
		t.Attr("calls-per-hour", strconv.Itoa(calls)+" per hour")
		// The first and the last list of the hour may fall on either side, and a token is fetched.
		if calls > callsPerHour+2 {
			t.Errorf("%d calls in an hour, want %d", calls, callsPerHour)
		}
	})
}

func TestAnEphemeralRunnerCostsFourCalls(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("short", "w0", map[string]string{"ephemeral": "true", "min": "2"}, works)
		w.after(10 * time.Minute)
		w.steps("w0", "short", 36*time.Second, 30*time.Second) // 100 per hour
		w.after(20 * time.Minute)
		before, runners := w.server.State().Counters.Calls, len(w.times(w.registered, "short"))
		w.after(80 * time.Minute)
		ended := len(w.times(w.registered, "short")) - runners
		own := 0
		for route, n := range w.server.State().Counters.Calls {
			// A list is shared by all runners of the scope, and a token by all calls.
			if strings.Contains(route, "/runners") && !strings.HasSuffix(route, "/runners") || route == "POST /2.0/workspaces/{workspace}/pipelines-config/runners" {
				own += n - before[route]
			}
		}
		each := float64(own) / float64(ended)
		t.Attr("calls-per-ephemeral-runner", strconv.FormatFloat(each, 'f', 1, 64))
		if ended < 90 || each > callsPerRunner {
			t.Errorf("%d runners cost %.2f calls each, want at least 90 runners and at most %d calls: %v", ended, each, callsPerRunner, slices.Sorted(maps.Keys(w.server.State().Counters.Calls)))
		}
	})
}
