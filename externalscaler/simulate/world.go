package simulate

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// owner stands for the owner label of an installation.
const owner = "keda.simulated"

// world is Bitbucket and the runners: what is true, whether or not the scaler knows it.
type world struct {
	Options
	load   workload.Workload
	events events
	now    time.Time
	random *rand.Rand
	driver driver
	groups []*group
	// classes are the steps that the same runners serve, by repository and labels.
	classes map[string]*class
	// running counts the pipelines that have not ended, and left those that have not begun.
	running, left int
	// until is when the simulation may end.
	until time.Time
	// launched counts all runners.
	launched int
	measured measured
}

// group is a runner group in the world.
type group struct {
	Group
	place   int
	labels  pipelines.Labels
	classes []*class
	// runners are those whose Jobs are not complete, in the order of their creation.
	runners []*runner
}

// class is all steps of one repository with the same labels.
type class struct {
	// groups are those whose runners serve it.
	groups []*group
	// waiting are the steps that wait for a runner, the oldest first.
	waiting []*step
	// counted is how many of its waiting steps are in the snapshot of that number.
	counted, snapshot int
}

// pipeline is a pipeline that has begun.
type pipeline struct {
	*workload.Pipeline
	number int
	steps  []*step
	// ended counts the steps that have ended. failed is true if one of them ended badly: then no
	// further one begins.
	ended  int
	failed bool
}

// step is a step of a pipeline.
type step struct {
	*workload.Step
	pipeline *pipeline
	place    int
	class    *class
	// before counts the steps that it still waits for, and next are those that wait for it.
	before int
	next   []*step
	// readyAt, begunAt and endedAt are zero before.
	readyAt, begunAt, endedAt time.Time
	runner                    *runner
}

func newWorld(load workload.Workload, c Configuration, o Options) *world {
	w := &world{
		Options: o, load: load, now: load.Start.Add(-warmUp), classes: map[string]*class{}, left: len(load.Pipelines), until: load.End.Add(o.Tail),
		random: rand.New(rand.NewPCG(o.Seed, 0x2545f4914f6cdd1d)), //nolint:gosec // repeatable, not secret
	}
	w.measured = newMeasured(load.Start, load.End, o.Samples)
	for i, g := range c.Groups {
		w.groups = append(w.groups, &group{Group: g, place: i, labels: g.RunnerLabels(owner)})
	}
	w.events.plan(w.until, func() {}) // what is measured ends here, if nothing is left to do
	for i := range load.Pipelines {
		w.events.plan(load.Pipelines[i].At, func() { w.begin(i) })
	}
	return w
}

// done reports whether nothing is left to simulate.
func (w *world) done() bool {
	return w.events.Len() == 0 || w.left == 0 && w.running == 0 && !w.now.Before(w.until)
}

// next lets everything happen that happens at the next moment.
func (w *world) next() {
	at := w.events.due[0].at
	w.measured.pass(at)
	w.now = time.Unix(0, at).UTC()
	for w.events.Len() > 0 && w.events.due[0].at == at {
		e := heap.Pop(&w.events).(event) //nolint:forcetypeassert // of plan
		e.do()
	}
	w.driver.settled()
	w.measured.desired = w.driver.desired()
}

// after plans something for a time from now.
func (w *world) after(d time.Duration, do func()) { w.events.plan(w.now.Add(d), do) }

// classOf returns the class of a step.
func (w *world) classOf(repository string, labels pipelines.Labels) *class {
	key := repository + "\x00" + strings.Join(labels, "\x00")
	if known := w.classes[key]; known != nil {
		return known
	}
	made := &class{}
	for _, g := range w.groups {
		if reaches := g.Repository == "" || repository == "" || g.Repository == repository; reaches && labels.ServedBy(g.labels) {
			made.groups = append(made.groups, g)
			g.classes = append(g.classes, made)
		}
	}
	w.classes[key] = made
	return made
}

// begin begins a pipeline.
func (w *world) begin(i int) {
	source := &w.load.Pipelines[i]
	p := &pipeline{Pipeline: source, number: i + 1, steps: make([]*step, len(source.Steps))}
	for at := range source.Steps {
		s := &step{Step: &source.Steps[at], pipeline: p, place: at, class: w.classOf(source.Repository, source.Steps[at].Labels), before: len(source.Steps[at].After)}
		for _, before := range s.After {
			p.steps[before].next = append(p.steps[before].next, s)
		}
		p.steps[at] = s
	}
	w.left--
	w.running++
	w.driver.pipeline(p)
	for _, s := range p.steps {
		if s.before == 0 && !p.failed {
			w.ready(s)
		}
	}
	w.close(p)
}

// ready has a step look for a runner.
func (w *world) ready(s *step) {
	s.readyAt = w.now
	if len(s.Labels) == 0 { // it runs elsewhere
		s.begunAt = w.now
		w.after(s.Duration, func() { w.end(s, true) })
		return
	}
	w.measured.waiting++
	if !w.driver.ready(s) {
		return
	}
	var idle []*runner
	online := false
	for _, g := range s.class.groups {
		for _, r := range g.runners {
			online = online || r.takesSteps()
			if r.idle() {
				idle = append(idle, r)
			}
		}
	}
	switch {
	case len(idle) > 0:
		w.assign(s, idle[w.random.IntN(len(idle))])
	case online || w.WaitOffline && len(s.class.groups) > 0:
		w.enqueue(&s.class.waiting, s)
	default:
		if len(s.class.groups) == 0 {
			w.measured.unserved++
		}
		w.fail(s)
	}
}

// longestWait is how long Bitbucket lets a step wait for a runner.
const longestWait = 150 * time.Minute

// enqueue has a step wait, which fails if it waits for too long.
func (w *world) enqueue(waiting *[]*step, s *step) {
	*waiting = append(*waiting, s)
	w.after(longestWait, func() {
		if i := slices.Index(*waiting, s); i >= 0 {
			*waiting = slices.Delete(*waiting, i, i+1)
			w.fail(s)
		}
	})
}

// fail ends a step that gets no runner.
func (w *world) fail(s *step) {
	w.measured.waiting--
	w.measured.failed++
	w.end(s, false)
}

// assign gives a step to a runner.
func (w *world) assign(s *step, r *runner) {
	s.runner, r.step = r, s
	w.measured.idle--
	w.measured.busy++
	if w.Assign == 0 {
		w.start(s)
		return
	}
	w.after(w.Assign, func() {
		if s.endedAt.IsZero() { // else its runner was removed
			w.start(s)
		}
	})
}

// start has a runner begin its step.
func (w *world) start(s *step) {
	s.begunAt = w.now
	w.measured.waiting--
	w.measured.waits = append(w.measured.waits, s.begunAt.Sub(s.readyAt))
	if s.runner != nil {
		w.driver.changed(s.runner, s, beganStep)
	}
	w.after(s.Duration, func() {
		if s.endedAt.IsZero() {
			w.finish(s)
		}
	})
}

// finish ends a step that has been successful.
func (w *world) finish(s *step) {
	w.measured.done++
	w.measured.busy--
	r := s.runner
	if r != nil {
		r.step = nil
		if r.takesSteps() {
			w.measured.idle++
		}
	}
	w.driver.changed(r, s, endedStep)
	if r != nil {
		w.offer(r)
	}
	w.end(s, true)
}

// end ends a step, and has those begin that come after it.
func (w *world) end(s *step, well bool) {
	s.endedAt = w.now
	p := s.pipeline
	p.ended++
	p.failed = p.failed || !well
	if !p.failed {
		for _, next := range s.next {
			if next.before--; next.before == 0 && !p.failed {
				w.ready(next)
			}
		}
	}
	w.close(p)
}

// close ends a pipeline of which nothing runs or will run any more.
func (w *world) close(p *pipeline) {
	if p.steps == nil {
		return
	}
	for _, s := range p.steps {
		if s.endedAt.IsZero() && (!s.readyAt.IsZero() || !p.failed) {
			return
		}
	}
	for _, s := range p.steps {
		if s.endedAt.IsZero() && len(s.Labels) > 0 {
			w.measured.notRun++
		}
	}
	w.driver.over(p)
	p.steps = nil
	w.running--
}

// offer gives an idle runner the step that has waited for longest.
func (w *world) offer(r *runner) {
	if !r.idle() {
		return
	}
	var longest *class
	for _, c := range r.group.classes {
		if len(c.waiting) > 0 && (longest == nil || c.waiting[0].readyAt.Before(longest.waiting[0].readyAt)) {
			longest = c
		}
	}
	if longest == nil {
		return
	}
	s := longest.waiting[0]
	longest.waiting = longest.waiting[1:]
	w.assign(s, r)
}
