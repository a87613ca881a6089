package story

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// chapter is one part of the story. Chapters run side by side.
type chapter struct {
	title string
	// ready reports whether it can begin.
	ready func(View) bool
	// act is what it does when it begins; nil for nothing.
	act func(context.Context, View) error
	// progress returns whether it has ended, and what came of it or else what it waits for.
	progress func(View) (done bool, text string)

	begun, ended time.Time
	acting       bool
	text         string
}

func (c *chapter) over(View) bool    { return !c.ended.IsZero() }
func (c *chapter) started(View) bool { return !c.begun.IsZero() }

// plot returns the chapters.
func (p *player) plot() []*chapter {
	minimum := &chapter{title: "The minimum of each group", ready: func(View) bool { return true }, progress: p.minimum}
	build := &chapter{title: "acme/app is pushed", ready: minimum.over, act: p.push(app), progress: p.build}
	beside := &chapter{
		title: "acme/web runs beside it", act: p.push(web), progress: p.beside,
		ready: func(v View) bool { return len(v.of(app)) > 0 },
	}
	tests := &chapter{title: "Five tests wait at once", ready: func(v View) bool { return len(v.tests()) == fanOut }, progress: p.tests}
	orphan := p.orphan()
	orphan.ready = tests.started
	gate := &chapter{
		title: "Deploy waits for a person", act: p.deploy, progress: p.gate,
		ready: func(v View) bool { return v.named(app, "Deploy").Outcome == emulator.OutcomePaused },
	}
	surplus := &chapter{title: "The surplus is retired", ready: func(v View) bool { return v.idle() }, progress: p.surplus}
	end := &chapter{title: "The ScaledJobs are deleted", act: func(ctx context.Context, _ View) error { return p.stage.Remove(ctx) }, progress: p.end}
	end.ready = func(v View) bool { return surplus.over(v) && orphan.over(v) }
	all := []*chapter{minimum, build, tests, beside, gate, orphan, surplus, end}
	if p.settings.Keep {
		all = all[:len(all)-1]
	}
	return all
}

// of returns the steps of a repository.
func (v View) of(repository string) []emulator.StepInfo {
	return slices.DeleteFunc(slices.Clone(v.Bitbucket.Steps), func(s emulator.StepInfo) bool { return s.Repository != repository })
}

// named returns one step, or nothing.
func (v View) named(repository, name string) emulator.StepInfo {
	for _, step := range v.of(repository) {
		if step.Name == name {
			return step
		}
	}
	return emulator.StepInfo{}
}

// tests returns the steps of acme/app that begin to wait at once, if they have.
func (v View) tests() []emulator.StepInfo {
	return slices.DeleteFunc(v.of(app), func(s emulator.StepInfo) bool {
		return !slices.Contains(s.Labels, "tests") || s.QueuedOn.IsZero() || s.Outcome == emulator.OutcomeWaiting
	})
}

// counts counts steps by their outcome. All others have failed.
func counts(steps []emulator.StepInfo) (waiting, running, passed, failed int) {
	for _, step := range steps {
		switch step.Outcome {
		case emulator.OutcomeQueued, emulator.OutcomeWaiting, emulator.OutcomePaused, emulator.OutcomeHalted:
			waiting++
		case emulator.OutcomeRunning:
			running++
		case emulator.OutcomePassed:
			passed++
		default:
			failed++
		}
	}
	return waiting, running, passed, failed
}

// idle reports whether the steps of both pipelines have ended.
func (v View) idle() bool {
	waiting, running, _, _ := counts(v.Bitbucket.Steps)
	return len(v.of(app)) == stepsOf[app] && len(v.of(web)) == stepsOf[web] && waiting+running == 0
}

func (v View) online(group string) int {
	for _, g := range v.Groups {
		if g.Name == group {
			return g.Runners["idle"] + g.Runners["busy"] + g.Runners["unknown"]
		}
	}
	return 0
}

// progressOf says how far steps are.
func progressOf(steps []emulator.StepInfo) string {
	waiting, running, passed, failed := counts(steps)
	text := fmt.Sprintf("%d wait, %d run, %d passed", waiting, running, passed)
	if failed > 0 {
		text += fmt.Sprintf(", %d FAILED", failed)
	}
	return text
}

func (p *player) push(repository string) func(context.Context, View) error {
	return func(ctx context.Context, _ View) error {
		_, err := p.bitbucket.Push(ctx, emulator.PushRequest{Workspace: Workspace, Repository: repository, File: files(p.settings.Pace)[repository]})
		return err
	}
}

func (p *player) minimum(v View) (bool, string) {
	want, online, jobs, done := 0, 0, 0, true
	for _, g := range p.groups {
		want, online, jobs = want+g.Min, online+v.online(g.Name), jobs+len(v.Jobs[g.Name])
		done = done && v.online(g.Name) >= g.Min
	}
	switch {
	case done:
		return true, fmt.Sprintf("%d runners online", online)
	case jobs < want:
		return false, "waits for KEDA's first poll"
	}
	return false, fmt.Sprintf("%d pods start, their runners register", want-online)
}

func (p *player) build(v View) (bool, string) {
	switch build := v.named(app, "Build"); build.Outcome {
	case "", emulator.OutcomeWaiting:
		return false, "Bitbucket parses its file"
	case emulator.OutcomeQueued:
		return false, "Build waits for a runner of builds"
	case emulator.OutcomeRunning:
		return false, "Build runs"
	default:
		return true, "Build " + build.Outcome
	}
}

func (p *player) tests(v View) (bool, string) {
	tests := v.tests()
	waiting, running, _, _ := counts(tests)
	if waiting+running > 0 {
		return false, progressOf(tests)
	}
	burst, err := p.burst()
	if err != nil {
		return true, err.Error()
	}
	return true, burst.String()
}

func (p *player) beside(v View) (bool, string) {
	steps := v.of(web)
	waiting, running, _, _ := counts(steps)
	switch {
	case v.named(web, "Bundle").QueuedOn.IsZero():
		return false, "Bitbucket parses its file"
	case waiting+running > 0:
		return false, progressOf(steps)
	}
	_, _, passed, failed := counts(steps)
	text := fmt.Sprintf("%d passed", passed)
	if failed > 0 {
		text += fmt.Sprintf(", %d FAILED", failed)
	}
	if p.settings.Webhooks {
		if found, err := p.first(); err == nil {
			text += fmt.Sprintf("; webhook to Job: %.1f s", found.after.Seconds())
		}
	}
	return true, text
}

// deploy starts the step that waits for a person, as a person does.
func (p *player) deploy(ctx context.Context, v View) error {
	step := v.named(app, "Deploy").UUID
	pause := time.NewTimer(3 * p.settings.Pace)
	defer pause.Stop()
	select {
	case <-pause.C:
		return p.bitbucket.StartStep(ctx, step)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *player) gate(v View) (bool, string) {
	switch deploy := v.named(app, "Deploy"); deploy.Outcome {
	case emulator.OutcomePaused:
		return false, "nothing is started for it before"
	case emulator.OutcomeQueued:
		return false, "started by hand; waits for a runner"
	case emulator.OutcomeRunning:
		return false, "started by hand; runs"
	default:
		return true, "started by hand; Deploy " + deploy.Outcome
	}
}

func (p *player) orphan() *chapter {
	var uuid string
	c := &chapter{title: "An orphan is removed"}
	c.act = func(ctx context.Context, _ View) (err error) {
		uuid, err = p.stage.Orphan(ctx)
		return err
	}
	c.progress = func(v View) (bool, string) {
		switch {
		case c.acting:
			return false, "a runner without a pod is registered"
		case slices.ContainsFunc(v.Bitbucket.Runners, func(r emulator.RunnerInfo) bool { return r.UUID == uuid }):
			return false, "no pod; deleted after the grace"
		}
		return true, "found without a pod, and deleted"
	}
	return c
}

func (p *player) surplus(v View) (bool, string) {
	jobs, want, online := 0, 0, 0
	text := "must be idle for certain"
	for _, g := range p.groups {
		jobs, want, online = jobs+len(v.Jobs[g.Name]), want+g.Min, online+v.online(g.Name)
		for _, shown := range v.Groups {
			if shown.Name == g.Name && shown.Reason == string(policy.ReasonCoolDown) {
				text = "the cool-down runs"
			}
		}
	}
	if jobs == want && online == want {
		return true, "each group is at its minimum"
	}
	return false, fmt.Sprintf("%d too many; %s", jobs-want, text)
}

func (p *player) end(v View) (bool, string) {
	jobs := 0
	for _, of := range v.Jobs {
		jobs += len(of)
	}
	if jobs == 0 && len(v.Bitbucket.Runners) == 0 {
		return true, "no Job, no pod, no runner is left"
	}
	return false, fmt.Sprintf("%d Jobs end, %d runners deregister", jobs, len(v.Bitbucket.Runners))
}
