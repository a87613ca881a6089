// Package story demonstrates the system to a person: the pipelines of two repositories run
// on runners of two groups, which start when steps wait and end when none do. A step waits
// for a person, an orphan is removed, and nothing remains. It runs on any Stage: the test
// bed in memory, or a real cluster.
package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/status"
)

// Group is one runner group of the story.
type Group struct {
	// Name is the name of its ScaledJob, and its custom label.
	Name string
	// Min and Max are the bounds of its trigger.
	Min, Max int
}

// Groups returns the groups of the story.
func Groups() []Group {
	return []Group{{Name: "builds", Min: 1, Max: 3}, {Name: "tests", Min: 1, Max: 6}}
}

// Metadata is what the group's trigger says of it.
func (g Group) Metadata() map[string]string {
	return map[string]string{"labels": g.Name, "min": strconv.Itoa(g.Min), "max": strconv.Itoa(g.Max), "strategy": "queuedSteps"}
}

// View is the state of the system at one moment.
type View struct {
	Bitbucket emulator.State
	Groups    []status.Group
	// Jobs are the unfinished Jobs of each group.
	Jobs map[string][]Job
}

// Job is an unfinished Job.
type Job struct {
	Name      string
	CreatedOn time.Time
}

// Stage is the system on which the story runs.
type Stage interface {
	// Look returns the current view.
	Look(ctx context.Context) (View, error)
	// Orphan registers one of our runners at Bitbucket without a pod, and returns its
	// UUID.
	Orphan(ctx context.Context) (uuid string, err error)
	// Remove deletes the ScaledJobs.
	Remove(ctx context.Context) error
}

// Bitbucket is what people do there.
type Bitbucket interface {
	Push(ctx context.Context, request emulator.PushRequest) (emulator.Pushed, error)
	StartStep(ctx context.Context, uuid string) error
}

// Settings configure the story.
type Settings struct {
	// Pace is the unit of the steps' durations.
	Pace time.Duration
	// Poll is the ScaledJobs' pollingInterval.
	Poll time.Duration
	// Webhooks is true if the scaler receives Bitbucket's webhooks. Otherwise it polls.
	Webhooks bool
	// Patience is how long nothing may begin or end.
	Patience time.Duration
	// Keep omits the last chapter, so that the ScaledJobs remain.
	Keep bool
}

// The times between two looks and between two drawings. A person sees no clock stop.
const (
	lookInterval = 200 * time.Millisecond
	drawInterval = 200 * time.Millisecond
)

// display shows scenes to a person.
type display interface {
	show(s scene) error
	// end shows what came of the story, and leaves the output as others expect it.
	end(lines []string) error
}

// player runs one story.
type player struct {
	settings  Settings
	stage     Stage
	bitbucket Bitbucket
	groups    []Group
	display   display
	chapters  []*chapter
	begun     time.Time
	// before is the emulator's state when the story began; view is the last one.
	before *emulator.State
	view   View
	// looked is the error of the last look.
	looked error
	// changed is when a chapter last began or ended.
	changed time.Time
	// jobs are all that were seen of each group.
	jobs map[string][]Job
}

// Run runs the story and returns an error if a step did not pass, if the Jobs for steps that
// began to wait at once were not created at once, or if something remains. On a terminal it
// shows one screen that changes in place, and otherwise a line for each change.
func Run(ctx context.Context, stage Stage, bitbucket Bitbucket, settings Settings, out io.Writer) error {
	return run(ctx, stage, bitbucket, settings, displayOf(out))
}

func run(ctx context.Context, stage Stage, bitbucket Bitbucket, settings Settings, to display) error {
	p := &player{
		settings: settings, stage: stage, bitbucket: bitbucket, groups: Groups(), display: to,
		begun: time.Now(), changed: time.Now(), jobs: map[string][]Job{},
	}
	p.chapters = p.plot()
	err := p.play(ctx)
	var lines []string
	if err == nil {
		lines, err = p.verdict()
	}
	return errors.Join(err, p.display.end(lines))
}

// acted is the end of what a chapter does when it begins.
type acted struct {
	chapter *chapter
	err     error
}

// look is a look at the stage.
type look struct {
	view View
	err  error
}

// play shows how the chapters go until all have ended. Looking and acting never hold up the
// display.
func (p *player) play(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	looks, acts := make(chan look), make(chan acted, len(p.chapters))
	tasks.Go(func() { p.watch(ctx, looks) })
	ticker := time.NewTicker(drawInterval)
	defer ticker.Stop()
	for {
		if err := p.display.show(p.scene()); err != nil {
			return err
		}
		select {
		case l := <-looks:
			if p.looked = l.err; l.err != nil {
				break
			}
			p.see(l.view)
			for _, c := range p.advance() {
				tasks.Go(func() { acts <- acted{c, c.act(ctx, l.view)} })
			}
		case a := <-acts:
			a.chapter.acting = false
			if a.err != nil {
				return fmt.Errorf("%s: %w", a.chapter.title, a.err)
			}
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", p.waitsFor(), ctx.Err())
		}
		if p.ended() {
			return p.display.show(p.scene())
		}
		if time.Since(p.changed) > p.settings.Patience {
			return errors.Join(fmt.Errorf("waited for %s: %w", p.waitsFor(), context.DeadlineExceeded), p.looked)
		}
	}
}

// watch looks at the stage until ctx ends.
func (p *player) watch(ctx context.Context, looks chan<- look) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		view, err := p.stage.Look(ctx)
		select {
		case looks <- look{view, err}:
		case <-ctx.Done():
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// see takes a view, without the steps of an earlier story.
func (p *player) see(v View) {
	if p.before == nil {
		p.before = &v.Bitbucket
	}
	v.Bitbucket.Steps = slices.DeleteFunc(slices.Clone(v.Bitbucket.Steps), func(step emulator.StepInfo) bool {
		return slices.ContainsFunc(p.before.Steps, func(old emulator.StepInfo) bool { return old.UUID == step.UUID })
	})
	p.view = v
	for group, jobs := range v.Jobs {
		for _, job := range jobs {
			if !slices.ContainsFunc(p.jobs[group], func(seen Job) bool { return seen.Name == job.Name }) {
				p.jobs[group] = append(p.jobs[group], job)
			}
		}
	}
}

// advance begins and ends chapters, and returns those that have something to do.
func (p *player) advance() (act []*chapter) {
	for _, c := range p.chapters {
		if !c.begun.IsZero() || !c.ready(p.view) {
			continue
		}
		c.begun, p.changed = time.Now(), time.Now()
		if c.act != nil {
			c.acting = true
			act = append(act, c)
		}
	}
	for _, c := range p.chapters {
		if c.begun.IsZero() || !c.ended.IsZero() {
			continue
		}
		var done bool
		if done, c.text = c.progress(p.view); done && !c.acting {
			c.ended, p.changed = time.Now(), time.Now()
		}
	}
	return act
}

func (p *player) ended() bool {
	return !slices.ContainsFunc(p.chapters, func(c *chapter) bool { return c.ended.IsZero() })
}

// waitsFor says what the chapters wait for that have begun.
func (p *player) waitsFor() string {
	var all []string
	for _, c := range p.chapters {
		if !c.begun.IsZero() && c.ended.IsZero() {
			all = append(all, fmt.Sprintf("%q (%s)", c.title, c.text))
		}
	}
	if len(all) == 0 {
		return "the system to be ready"
	}
	return strings.Join(all, ", ")
}

// verdict checks the result with the emulator's own record.
func (p *player) verdict() (lines []string, err error) {
	want, passed := stepsOf[app]+stepsOf[web], 0
	for _, step := range p.view.Bitbucket.Steps {
		if step.Outcome == emulator.OutcomePassed {
			passed++
		}
	}
	killed := p.view.Bitbucket.Counters.BusyRunnersDeleted - p.before.Counters.BusyRunnersDeleted
	calls := 0
	for _, n := range p.view.Bitbucket.Counters.Calls {
		calls += n
	}
	lines = []string{fmt.Sprintf("In %.0f s: %d of %d steps passed; %d runners left; %d calls to Bitbucket.",
		time.Since(p.begun).Seconds(), passed, want, len(p.view.Bitbucket.Runners), calls)}
	burst, err := p.burst()
	if err == nil {
		lines = append(lines, fmt.Sprintf("Five tests began to wait: %s.", burst))
	}
	if p.settings.Webhooks {
		first, missed := p.first()
		if missed == nil {
			lines = append(lines, fmt.Sprintf("A webhook told of a step without a runner: its Job after %.1f s.", first.after.Seconds()))
		}
		err = errors.Join(err, missed)
	}
	if passed != want || killed > 0 {
		err = errors.Join(err, fmt.Errorf("of %d steps %d passed; %d busy runners deleted", want, passed, killed))
	}
	return lines, err
}
