package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/status"
)

// stage is a Stage and a Bitbucket on which everything happens at set times after a push.
type stage struct {
	mu                       sync.Mutex
	begun                    time.Time
	pushed                   map[string]time.Time
	started, orphan, removed time.Time
	// fault changes what is seen.
	fault func(v *View, now time.Time)
	// failures is how many looks fail, and slow how long each takes.
	failures int
	slow     time.Duration
}

var errLook = errors.New("the stage cannot be read")

func newStage() *stage {
	return &stage{begun: time.Now(), pushed: map[string]time.Time{}, fault: func(*View, time.Time) {}}
}

// at is a step of the stage: when it begins to wait, when a runner has it and when it has
// ended, after the push.
type at struct {
	repository, name, group string
	queued, taken, ended    time.Duration
}

var steps = []at{
	{app, "Build", "builds", 1 * time.Second, 2 * time.Second, 5 * time.Second},
	{app, "Unit", "tests", 5 * time.Second, 6 * time.Second, 11 * time.Second},
	{app, "API", "tests", 5 * time.Second, 8 * time.Second, 12 * time.Second},
	{app, "UI", "tests", 5 * time.Second, 8 * time.Second, 13 * time.Second},
	{app, "Load", "tests", 5 * time.Second, 8 * time.Second, 13 * time.Second},
	{app, "Lint", "tests", 5 * time.Second, 8 * time.Second, 11 * time.Second},
	{web, "Bundle", "builds", 1 * time.Second, 3 * time.Second, 10 * time.Second},
	{web, "Pages", "tests", 10 * time.Second, 12 * time.Second, 15 * time.Second},
	{web, "Links", "tests", 10 * time.Second, 12 * time.Second, 15 * time.Second},
}

// starts reports whether a Job is created for the step.
func (a at) starts() bool {
	return a.taken-a.queued > time.Second && a.name != "Pages" && a.name != "Links"
}

// jobAfter is the time from there to the Job.
const jobAfter = 700 * time.Millisecond

// deployAt is when Deploy begins to wait for a person.
const deployAt = 13 * time.Second

func (s *stage) Push(_ context.Context, request emulator.PushRequest) (emulator.Pushed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushed[request.Repository] = time.Now()
	return emulator.Pushed{}, nil
}

func (s *stage) StartStep(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = time.Now()
	return nil
}

func (s *stage) Orphan(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orphan = time.Now()
	return "{orphan}", nil
}

func (s *stage) Remove(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed = time.Now()
	return nil
}

func (s *stage) Look(ctx context.Context) (View, error) {
	if s.failures > 0 {
		s.failures--
		return View{}, errLook
	}
	timer := time.NewTimer(s.slow)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return View{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	v := View{
		Bitbucket: emulator.State{
			Now:      now,
			Runners:  []emulator.RunnerInfo{{UUID: "{one}"}},
			Steps:    []emulator.StepInfo{{UUID: "{old}", Outcome: emulator.OutcomeFailed}},
			Counters: emulator.Counters{BusyRunnersDeleted: 3, Calls: map[string]int{"GET /": 7}},
		},
		Jobs: map[string][]Job{},
	}
	for _, repository := range []string{app, web} {
		if pushed, ok := s.pushed[repository]; ok {
			v.Bitbucket.Steps = append(v.Bitbucket.Steps, s.pipeline(repository, now.Sub(pushed), pushed)...)
		}
	}
	if !s.orphan.IsZero() && now.Sub(s.orphan) < 4*time.Second {
		v.Bitbucket.Runners = append(v.Bitbucket.Runners, emulator.RunnerInfo{UUID: "{orphan}"})
	}
	if s.removed.IsZero() || now.Sub(s.removed) < 2*time.Second {
		s.jobs(&v, now)
	} else {
		v.Bitbucket.Runners = nil
	}
	s.fault(&v, now)
	return v, nil
}

// pipeline returns the steps of a repository some time after its push.
func (s *stage) pipeline(repository string, since time.Duration, pushed time.Time) (shown []emulator.StepInfo) {
	for _, step := range steps {
		if step.repository != repository {
			continue
		}
		info := emulator.StepInfo{UUID: repository + step.name, PipelineUUID: repository, Name: step.name, Repository: repository, Labels: []string{"linux", step.group}, Outcome: emulator.OutcomeWaiting}
		if since >= step.queued {
			info.Outcome, info.QueuedOn = emulator.OutcomeQueued, pushed.Add(step.queued)
		}
		if since >= step.taken {
			info.Outcome, info.StartedOn = emulator.OutcomeRunning, pushed.Add(step.taken)
		}
		if since >= step.ended {
			info.Outcome, info.CompletedOn = emulator.OutcomePassed, pushed.Add(step.ended)
		}
		shown = append(shown, info)
	}
	if repository != app {
		return shown
	}
	deploy := emulator.StepInfo{UUID: "{deploy}", PipelineUUID: app, Name: "Deploy", Repository: app, Labels: []string{"linux", "builds"}, Outcome: emulator.OutcomeWaiting}
	switch started := time.Since(s.started); {
	case since < deployAt:
	case s.started.IsZero():
		deploy.Outcome = emulator.OutcomePaused
	case started < time.Second:
		deploy.Outcome, deploy.QueuedOn = emulator.OutcomeQueued, s.started
	case started < 3*time.Second:
		deploy.Outcome, deploy.QueuedOn, deploy.StartedOn = emulator.OutcomeRunning, s.started, s.started.Add(time.Second)
	default:
		deploy.Outcome, deploy.QueuedOn, deploy.StartedOn, deploy.CompletedOn = emulator.OutcomePassed, s.started, s.started.Add(time.Second), s.started.Add(3*time.Second)
	}
	return append(shown, deploy)
}

// jobs adds the groups with their Jobs, which are created a second before their steps have a
// runner. Five seconds after the last step, each group is at its minimum.
func (s *stage) jobs(v *View, now time.Time) {
	waiting, running, _, _ := counts(v.Bitbucket.Steps[1:])
	quiet := !s.started.IsZero() && waiting+running == 0 && now.Sub(s.started) > 8*time.Second
	for _, g := range Groups() {
		jobs := []Job{{g.Name + "-0", s.begun.Add(time.Second)}}
		for _, step := range steps {
			pushed, ok := s.pushed[step.repository]
			if step.group == g.Name && ok && step.starts() {
				jobs = append(jobs, Job{fmt.Sprintf("%s-%s", g.Name, step.name), pushed.Add(step.queued + jobAfter)})
			}
		}
		jobs = slices.DeleteFunc(jobs, func(j Job) bool { return j.CreatedOn.After(now) })
		if quiet {
			jobs = jobs[:1]
		}
		v.Jobs[g.Name] = jobs
		busy := 0
		shown := status.Group{Name: g.Name, Runners: map[string]int{}, Desired: len(jobs), Reason: string(policy.ReasonQueue), Queue: &status.Queue{}}
		for _, step := range v.Bitbucket.Steps[1:] {
			if slices.Contains(step.Labels, g.Name) && step.Outcome == emulator.OutcomeRunning {
				busy++
			}
			if slices.Contains(step.Labels, g.Name) && step.Outcome == emulator.OutcomeQueued && now.Sub(step.QueuedOn) > 500*time.Millisecond {
				shown.Queue.Queued++
				shown.Queue.Steps = append(shown.Queue.Steps, status.Step{UUID: step.UUID})
			}
		}
		for _, job := range jobs {
			switch {
			case busy > 0 && now.Sub(job.CreatedOn) >= time.Second:
				busy--
				shown.Runners["busy"]++
			case now.Sub(job.CreatedOn) >= time.Second:
				shown.Runners["idle"]++
			default:
				shown.Runners["starting"]++
			}
		}
		shown.Note = fmt.Sprintf("%d busy, %d queued: %d", shown.Runners["busy"], shown.Queue.Queued, len(jobs))
		v.Groups = append(v.Groups, shown)
	}
}
