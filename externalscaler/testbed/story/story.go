// Package story demonstrates the system to a person: steps are queued for two groups,
// runners start, steps run, runners are removed, an orphan is removed, and nothing
// remains. It runs on any Stage: the test bed in memory, or a real cluster.
package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/status"
)

// Group is one runner group of the story.
type Group struct {
	// Name is the name of its ScaledJob. Label is its custom label.
	Name, Label string
	// Min and Max are the bounds of its trigger.
	Min, Max int
	// Burst is how many steps are queued for it at the same time.
	Burst int
}

// Groups returns the groups of the demos.
func Groups() []Group {
	return []Group{
		{Name: "builds", Label: "builds", Min: 1, Max: 5, Burst: 5},
		{Name: "tests", Label: "tests", Min: 1, Max: 3, Burst: 3},
	}
}

// View is the state of the system at one moment.
type View struct {
	Bitbucket emulator.State
	Groups    []status.Group
	// Jobs counts the unfinished Jobs of each group.
	Jobs map[string]int
}

// Stage is the system on which the story runs.
type Stage interface {
	// Look returns the current view.
	Look(ctx context.Context) (View, error)
	// Queue queues steps at Bitbucket.
	Queue(ctx context.Context, label string, count int, duration time.Duration) error
	// Orphan registers one of our runners at Bitbucket without a pod, and returns its
	// UUID.
	Orphan(ctx context.Context) (uuid string, err error)
	// Remove deletes the ScaledJobs.
	Remove(ctx context.Context) error
}

// Settings configure the story.
type Settings struct {
	Groups []Group
	// Step is how long each step takes.
	Step time.Duration
	// Patience bounds each chapter.
	Patience time.Duration
	// Keep omits the last chapter, so that the ScaledJobs remain.
	Keep bool
}

// player runs one story.
type player struct {
	settings Settings
	stage    Stage
	screen   *screen
	// before is the emulator's state when the story began.
	before emulator.State
}

// Run runs the story and returns an error if a step did not pass or something remains. It
// writes to out, with a running clock if out is a terminal.
func Run(ctx context.Context, stage Stage, settings Settings, out io.Writer) error {
	p := &player{settings: settings, stage: stage, screen: newScreen(out, settings.Groups)}
	defer p.screen.clock.clear()
	begin := func(v View) bool {
		p.before = v.Bitbucket
		return true
	}
	if err := p.until(ctx, "the system to be ready", begin); err != nil {
		return err
	}
	chapters := []struct {
		title string
		play  func(context.Context) error
	}{
		{"The first runners: KEDA starts the minimum of each group", p.minimum},
		{"A burst: steps are queued for every group at once", p.burst},
		{"Quiet again: the surplus is disabled, checked again, and stopped", p.shrink},
		{"An orphan: a runner without a pod is found and removed", p.orphan},
		{"The end: the ScaledJobs are deleted, and nothing remains", p.end},
	}
	if settings.Keep {
		chapters = chapters[:len(chapters)-1]
	}
	for _, chapter := range chapters {
		p.screen.title(chapter.title)
		if err := chapter.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	return p.verdict(ctx)
}

// until polls the stage until done returns true.
func (p *player) until(ctx context.Context, what string, done func(View) bool) error {
	ctx, cancel := context.WithTimeout(ctx, p.settings.Patience)
	defer cancel()
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		view, err := p.look(ctx)
		if err == nil {
			p.screen.show(view, what)
			if p.screen.err != nil {
				return p.screen.err
			}
			if done(view) {
				return nil
			}
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waited for %s: %w", what, ctx.Err()), last)
		case <-ticker.C:
		}
	}
}

// look returns the current view without the steps of an earlier story.
func (p *player) look(ctx context.Context) (View, error) {
	view, err := p.stage.Look(ctx)
	view.Bitbucket.Steps = slices.DeleteFunc(view.Bitbucket.Steps, func(step emulator.StepInfo) bool {
		return slices.ContainsFunc(p.before.Steps, func(old emulator.StepInfo) bool { return old.UUID == step.UUID })
	})
	return view, err
}

func (p *player) minimum(ctx context.Context) error {
	return p.until(ctx, "the minimum of runners online", func(v View) bool {
		for _, g := range p.settings.Groups {
			if online(v, g.Name) < g.Min {
				return false
			}
		}
		return true
	})
}

func (p *player) burst(ctx context.Context) error {
	total := 0
	for _, g := range p.settings.Groups {
		if err := p.stage.Queue(ctx, g.Label, g.Burst, p.settings.Step); err != nil {
			return err
		}
		total += g.Burst
	}
	// verdict reports failed steps at the end, so that the other chapters still run.
	return p.until(ctx, "all steps to be run", func(v View) bool {
		queued, running, done, failed := steps(v)
		return queued == 0 && running == 0 && done+failed >= total
	})
}

func (p *player) shrink(ctx context.Context) error {
	return p.until(ctx, "each group to be back at its minimum", func(v View) bool {
		for _, g := range p.settings.Groups {
			if v.Jobs[g.Name] != g.Min || online(v, g.Name) != g.Min {
				return false
			}
		}
		return true
	})
}

func (p *player) orphan(ctx context.Context) error {
	uuid, err := p.stage.Orphan(ctx)
	if err != nil {
		return err
	}
	return p.until(ctx, "the orphan to be removed", func(v View) bool {
		for _, runner := range v.Bitbucket.Runners {
			if runner.UUID == uuid {
				return false
			}
		}
		return true
	})
}

func (p *player) end(ctx context.Context) error {
	if err := p.stage.Remove(ctx); err != nil {
		return err
	}
	return p.until(ctx, "Jobs and runners to be gone", func(v View) bool {
		jobs := 0
		for _, n := range v.Jobs {
			jobs += n
		}
		return jobs == 0 && len(v.Bitbucket.Runners) == 0
	})
}

// verdict checks the result with the emulator's own record.
func (p *player) verdict(ctx context.Context) error {
	view, err := p.look(ctx)
	if err != nil {
		return err
	}
	want := 0
	for _, g := range p.settings.Groups {
		want += g.Burst
	}
	queued, running, done, failed := steps(view)
	killed := view.Bitbucket.Counters.BusyRunnersDeleted - p.before.Counters.BusyRunnersDeleted
	p.screen.summary(view)
	if done != want || queued+running+failed+killed > 0 {
		return fmt.Errorf("of %d steps %d passed, %d queued, %d running, %d failed; %d busy runners deleted",
			want, done, queued, running, failed, killed)
	}
	return nil
}
