package main

import (
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// hour returns the samples of an hour in which the leader's memory and goroutines are as
// the function says at each minute.
func hour(at func(minute int) process) (samples []sample) {
	for minute := range 60 {
		leader := at(minute)
		leader.Leads = true
		samples = append(samples, sample{At: time.Unix(int64(60*minute), 0), Processes: []process{{Resident: 1}, leader}})
	}
	return samples
}

func flat(int) process {
	return process{Resident: 30 * mebi, Heap: 10 * mebi, Goroutines: 100, Open: 30}
}

func TestWhatGrowsOrIsLeftFails(t *testing.T) {
	none := sample{Objects: 5}
	for name, c := range map[string]struct {
		samples  []sample
		after    sample
		failed   map[string]string
		counters emulator.Counters
		want     string // empty: nothing is wrong
	}{
		"nothing":           {samples: hour(flat), after: sample{Objects: 7, Restarts: 5}},
		"a saw of memory":   {samples: hour(func(m int) process { p := flat(m); p.Resident += float64(m%5) * mebi; return p }), after: sample{Objects: 7, Restarts: 5}},
		"memory":            {samples: hour(func(m int) process { p := flat(m); p.Resident += float64(m) * mebi; return p }), after: sample{Objects: 7, Restarts: 5}, want: "resident memory"},
		"goroutines":        {samples: hour(func(m int) process { p := flat(m); p.Goroutines += 5 * float64(m); return p }), after: sample{Objects: 7, Restarts: 5}, want: "goroutines"},
		"open files":        {samples: hour(func(m int) process { p := flat(m); p.Open += float64(m); return p }), after: sample{Objects: 7, Restarts: 5}, want: "open files"},
		"no leader":         {samples: []sample{{}, {}, {}}, after: sample{Objects: 7, Restarts: 5}, want: "resident memory"},
		"a restart":         {samples: hour(flat), after: sample{Objects: 7, Restarts: 6}, want: "restarts"},
		"a runner":          {samples: hour(flat), after: sample{Objects: 7, Restarts: 5, Runners: 1}, want: "runners left"},
		"a Job":             {samples: hour(flat), after: sample{Objects: 7, Restarts: 5, Jobs: 1}, want: "Jobs and pods"},
		"a Secret":          {samples: hour(flat), after: sample{Objects: 8, Restarts: 5}, want: "Secrets"},
		"a directory":       {samples: hour(flat), after: sample{Objects: 7, Restarts: 5, Directories: 1}, want: "directories"},
		"a step":            {samples: hour(flat), after: sample{Objects: 7, Restarts: 5}, failed: map[string]string{"1": "lost"}, want: "steps"},
		"a build was ended": {samples: hour(flat), after: sample{Objects: 7, Restarts: 5}, counters: emulator.Counters{BusyRunnersDeleted: 1}, want: "busy runners"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &soak{samples: c.samples, kills: 5, failed: c.failed, passed: map[string]time.Duration{"2": time.Second}}
			err := s.judge(none, c.after, c.counters).err()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestFaultyFlagsAreAllNamed(t *testing.T) {
	_, err := parse([]string{"-duration=1m", "-kill-every=1h", "more"})
	for _, want := range []string{"arguments", "-duration: got 1m0s, want at least 10m0s", "-kill-every: got 1h0m0s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
