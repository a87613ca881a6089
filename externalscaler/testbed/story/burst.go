package story

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// burst is how Jobs were created for steps that began to wait at once.
type burst struct {
	jobs, polls int
	// after is the time from there to the first Job.
	after time.Duration
}

func (b burst) String() string {
	polls := "one poll"
	if b.polls > 1 {
		polls = "one poll for each pipeline"
	}
	return fmt.Sprintf("%d Jobs in %s after %.1f s", b.jobs, polls, b.after.Seconds())
}

// burst returns how the Jobs for the tests of acme/app were created. The error says why that
// was not right.
func (p *player) burst() (burst, error) {
	from, to := waited(p.view.tests(), p.view.Bitbucket.Now)
	found := burstOf(p.jobs["tests"], from, to, p.settings.Poll)
	// If the other pipeline's steps also began to wait in that time, Jobs for them are created in
	// a poll of their own.
	allowed := 1
	for _, step := range p.view.of(web) {
		if slices.Contains(step.Labels, "tests") && step.QueuedOn.After(from) && step.QueuedOn.Before(to) {
			allowed = 2
		}
	}
	switch {
	case found.jobs == 0:
		return found, errors.New("no Job was created for the tests that began to wait at once")
	case found.polls > allowed:
		return found, fmt.Errorf("%d Jobs for the tests that began to wait at once were created in %d polls, want one poll", found.jobs, found.polls)
	}
	return found, nil
}

// first returns how the Job for the first step was created that found no free runner. Only
// webhooks tell the scaler of it in time: no runner has reported anything of its pipeline.
func (p *player) first() (burst, error) {
	steps := []emulator.StepInfo{p.view.named(app, "Build"), p.view.named(web, "Bundle")}
	_, to := waited(steps, p.view.Bitbucket.Now)
	from := steps[0].QueuedOn
	if steps[1].QueuedOn.After(from) {
		from = steps[1].QueuedOn
	}
	found := burstOf(p.jobs["builds"], from, to, p.settings.Poll)
	if found.jobs == 0 {
		return found, errors.New("no Job was created for a step that only webhooks tell of")
	}
	return found, nil
}

// waited returns when the first of some steps began to wait, and when a runner had the last.
func waited(steps []emulator.StepInfo, now time.Time) (from, to time.Time) {
	for _, step := range steps {
		if from.IsZero() || step.QueuedOn.Before(from) {
			from = step.QueuedOn
		}
		if step.StartedOn.After(to) {
			to = step.StartedOn
		}
		if step.Outcome == emulator.OutcomeQueued {
			to = now
		}
	}
	return from, to
}

// burstOf returns how Jobs were created between two times, of which Kubernetes keeps the
// seconds.
func burstOf(jobs []Job, from, to time.Time, poll time.Duration) (b burst) {
	var last time.Time
	jobs = slices.SortedFunc(slices.Values(jobs), func(a, b Job) int { return a.CreatedOn.Compare(b.CreatedOn) })
	for _, job := range jobs {
		if job.CreatedOn.Before(from.Truncate(time.Second)) || job.CreatedOn.After(to) {
			continue
		}
		if b.jobs++; b.jobs == 1 {
			b.after = max(0, job.CreatedOn.Sub(from))
		}
		if b.jobs == 1 || job.CreatedOn.Sub(last) > poll/2 {
			b.polls++
		}
		last = job.CreatedOn
	}
	return b
}
