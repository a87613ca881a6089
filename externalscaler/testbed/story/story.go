// Package story tells the main job to a person: steps are queued for two groups,
// runners come, steps run, runners go, an orphan is cleaned, nothing is left. It
// is told on any Stage: the test bed in memory, or a real cluster.
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
	// Name of its ScaledJob, and its custom label.
	Name, Label string
	// Min and Max are those of its trigger.
	Min, Max int
	// Burst is how many steps are queued for it at once.
	Burst int
}

// Groups are those of the demos.
func Groups() []Group {
	return []Group{
		{Name: "builds", Label: "builds", Min: 1, Max: 5, Burst: 5},
		{Name: "tests", Label: "tests", Min: 1, Max: 3, Burst: 3},
	}
}

// View is what there is to see at one moment.
type View struct {
	Bitbucket emulator.State
	Groups    []status.Group
	// Jobs counts the unfinished Jobs of each group.
	Jobs map[string]int
}

// Stage is where the story plays.
type Stage interface {
	// Look gives the present view.
	Look(ctx context.Context) (View, error)
	// Queue queues steps at Bitbucket.
	Queue(ctx context.Context, label string, count int, duration time.Duration) error
	// Orphan leaves a runner of ours at Bitbucket that no pod belongs to, and
	// gives its UUID.
	Orphan(ctx context.Context) (uuid string, err error)
	// Remove deletes the ScaledJobs.
	Remove(ctx context.Context) error
}

// Settings of the story.
type Settings struct {
	Groups []Group
	// Step is how long each step takes.
	Step time.Duration
	// Patience bounds each chapter.
	Patience time.Duration
	// Keep leaves the last chapter out: the ScaledJobs stay.
	Keep bool
}

// teller tells one story.
type teller struct {
	settings Settings
	stage    Stage
	screen   *screen
	// before is what Bitbucket's record held already as the story began.
	before emulator.State
}

// Tell plays the story and returns an error if a step did not run or something
// is left over. It is told on out, with a running clock if that is a terminal.
func Tell(ctx context.Context, stage Stage, settings Settings, out io.Writer) error {
	t := &teller{settings: settings, stage: stage, screen: newScreen(out, settings.Groups)}
	defer t.screen.clock.clear()
	begin := func(v View) bool {
		t.before = v.Bitbucket
		return true
	}
	if err := t.until(ctx, "the stage to be set", begin); err != nil {
		return err
	}
	chapters := []struct {
		title string
		play  func(context.Context) error
	}{
		{"The first runners: KEDA starts the minimum of each group", t.minimum},
		{"A burst: steps are queued for every group at once", t.burst},
		{"Quiet again: the surplus is disabled, looked at once more, and ended", t.shrink},
		{"An orphan: a runner whose pod is gone is found and removed", t.orphan},
		{"The end: the ScaledJobs are deleted, and nothing is left", t.end},
	}
	if settings.Keep {
		chapters = chapters[:len(chapters)-1]
	}
	for _, chapter := range chapters {
		t.screen.title(chapter.title)
		if err := chapter.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	return t.verdict(ctx)
}

// until looks again and again until done says so.
func (t *teller) until(ctx context.Context, what string, done func(View) bool) error {
	ctx, cancel := context.WithTimeout(ctx, t.settings.Patience)
	defer cancel()
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		view, err := t.look(ctx)
		if err == nil {
			t.screen.show(view, what)
			if t.screen.err != nil {
				return t.screen.err
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

// look gives the present view, without the steps of an earlier story.
func (t *teller) look(ctx context.Context) (View, error) {
	view, err := t.stage.Look(ctx)
	view.Bitbucket.Steps = slices.DeleteFunc(view.Bitbucket.Steps, func(step emulator.StepInfo) bool {
		return slices.ContainsFunc(t.before.Steps, func(old emulator.StepInfo) bool { return old.UUID == step.UUID })
	})
	return view, err
}

func (t *teller) minimum(ctx context.Context) error {
	return t.until(ctx, "the minimum of runners online", func(v View) bool {
		for _, g := range t.settings.Groups {
			if online(v, g.Name) < g.Min {
				return false
			}
		}
		return true
	})
}

func (t *teller) burst(ctx context.Context) error {
	total := 0
	for _, g := range t.settings.Groups {
		if err := t.stage.Queue(ctx, g.Label, g.Burst, t.settings.Step); err != nil {
			return err
		}
		total += g.Burst
	}
	// A failed step is told in the verdict: what becomes of the runners is worth seeing.
	return t.until(ctx, "all steps to be run", func(v View) bool {
		queued, running, done, failed := steps(v)
		return queued == 0 && running == 0 && done+failed >= total
	})
}

func (t *teller) shrink(ctx context.Context) error {
	return t.until(ctx, "each group to be back at its minimum", func(v View) bool {
		for _, g := range t.settings.Groups {
			if v.Jobs[g.Name] != g.Min || online(v, g.Name) != g.Min {
				return false
			}
		}
		return true
	})
}

func (t *teller) orphan(ctx context.Context) error {
	uuid, err := t.stage.Orphan(ctx)
	if err != nil {
		return err
	}
	return t.until(ctx, "the orphan to be removed", func(v View) bool {
		for _, runner := range v.Bitbucket.Runners {
			if runner.UUID == uuid {
				return false
			}
		}
		return true
	})
}

func (t *teller) end(ctx context.Context) error {
	if err := t.stage.Remove(ctx); err != nil {
		return err
	}
	return t.until(ctx, "Jobs and runners to be gone", func(v View) bool {
		jobs := 0
		for _, n := range v.Jobs {
			jobs += n
		}
		return jobs == 0 && len(v.Bitbucket.Runners) == 0
	})
}

// verdict is the account from the emulator's own record.
func (t *teller) verdict(ctx context.Context) error {
	view, err := t.look(ctx)
	if err != nil {
		return err
	}
	want := 0
	for _, g := range t.settings.Groups {
		want += g.Burst
	}
	queued, running, done, failed := steps(view)
	killed := view.Bitbucket.Counters.BusyRunnersDeleted - t.before.Counters.BusyRunnersDeleted
	t.screen.summary(view)
	if done != want || queued+running+failed+killed > 0 {
		return fmt.Errorf("of %d steps %d passed, %d queued, %d running, %d failed; %d busy runners deleted",
			want, done, queued, running, failed, killed)
	}
	return nil
}
