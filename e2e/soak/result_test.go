package main

import (
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// hour returns the samples of an hour, every ten seconds, in which each leader is killed
// after ten minutes, and has values by how many minutes it has led.
func hour(at func(minute float64) process) (samples []sample) {
	for i := range 360 {
		leader := at(float64(i%60) / 6)
		leader.Leads, leader.Pod, leader.Started = true, []string{"a", "b"}[i/60%2], time.Unix(int64(i/60), 0)
		samples = append(samples, sample{At: time.Unix(int64(10*i), 0), Processes: []process{{Resident: 1}, leader}})
	}
	return samples
}

func flat(float64) process {
	return process{Resident: 30 * mebi, Heap: 10 * mebi, Goroutines: 100, Open: 30}
}

// with returns flat values with a change.
func with(change func(p *process, minute float64)) func(float64) process {
	return func(minute float64) process {
		p := flat(minute)
		change(&p, minute)
		return p
	}
}

func TestWhatGrowsOrIsLeftFails(t *testing.T) {
	for name, c := range map[string]struct {
		samples  []sample
		after    sample
		change   func(*soak)
		counters emulator.Counters
		want     string // empty: nothing is wrong
	}{
		"nothing":           {},
		"a saw of memory":   {samples: hour(with(func(p *process, m float64) { p.Resident += float64(int(6*m)%5) * mebi }))},
		"memory":            {samples: hour(with(func(p *process, m float64) { p.Resident += 4 * m * mebi })), want: "resident memory of the leader that grew most"},
		"goroutines":        {samples: hour(with(func(p *process, m float64) { p.Goroutines += 20 * m })), want: "goroutines of the leader that grew most"},
		"open files":        {samples: hour(with(func(p *process, m float64) { p.Open += 5 * m })), want: "open files of the leader that grew most"},
		"nothing measured":  {samples: hour(func(float64) process { return process{} }), want: "resident memory"},
		"no leader":         {samples: []sample{{}, {}, {}}, want: "replica led"},
		"no leader judged":  {samples: hour(flat)[:12], want: "long enough"},
		"no pipelines":      {change: func(s *soak) { s.pipelines, s.passed = nil, nil }, want: "pipelines"},
		"a step is missing": {change: func(s *soak) { s.passed = nil }, want: "steps that passed"},
		"a step failed":     {change: func(s *soak) { s.failed = map[string]string{"1": "lost"} }, want: "did not pass"},
		"a restart":         {after: sample{Objects: 7, Restarts: 6}, want: "restarts"},
		"a runner":          {after: sample{Objects: 7, Restarts: 5, Runners: 1}, want: "runners left"},
		"a Job":             {after: sample{Objects: 7, Restarts: 5, Jobs: 1}, want: "Jobs and pods"},
		"a Secret":          {after: sample{Objects: 8, Restarts: 5}, want: "Secrets"},
		"a directory":       {after: sample{Objects: 7, Restarts: 5, Directories: 1}, want: "directories"},
		"a build was ended": {counters: emulator.Counters{BusyRunnersDeleted: 1}, want: "busy runners"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.samples == nil {
				c.samples = hour(flat)
			}
			if c.after.Objects == 0 {
				c.after = sample{Objects: 7, Restarts: 5}
			}
			s := &soak{samples: c.samples, kills: 5, pipelines: map[string]bool{"p": true}, passed: map[string]time.Duration{"1": 0, "2": 0, "3": 0, "4": 0, "5": 0}}
			if c.change != nil {
				c.change(s)
			}
			c.counters.Calls = map[string]int{"GET /": 1}
			err := s.judge(sample{Objects: 5}, c.after, c.counters).err()
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
