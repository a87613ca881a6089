package simulate

import (
	"slices"
	"strconv"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// simulatedWorkspace stands for the workspace of all pipelines.
const simulatedWorkspace = "{00000000-0000-4000-8000-000000000000}"

// waits is what the scaler knows of the steps that wait. Reading them is simulated: when a pipeline
// is known, and how many calls that takes. Whose they are, and when further ones are expected, is
// left to package queue.
type waits struct {
	*world
	scaler *scaler
	groups []queue.Group
	views  []queue.View
	// byQueue is false if no group asks for runners by the steps that wait, and lookAhead if none
	// looks ahead. Then less need be known.
	byQueue, lookAhead bool
	usual              queue.Usual
	// known are the pipelines that were read and have not ended, in the order of their reading.
	known        []*watched
	pipelines    map[*pipeline]*watched
	repositories map[string]*polled
	// steps are those of the snapshot, until something changes.
	steps     []queue.Step
	snapshots int
	changed   bool
	last      []queue.Answer
	lastAt    time.Time
}

// watched is a pipeline at Bitbucket, as the scaler sees it.
type watched struct {
	*pipeline
	known bool
	// begun are the steps that runners have reported, and when.
	begun map[*step]time.Time
	// unseen are the steps that wait, which the scaler does not know yet. taken are those that a list
	// shows on a runner, which may not have reported them yet.
	unseen, taken map[*step]bool
	// waitingSince is since when steps of it wait that are known, and waited how long some did.
	waitingSince time.Time
	waited       time.Duration
	knownAt      time.Time
	// shown are its steps that wait or are expected, until something changes; nil if it has.
	shown   []queue.Step
	classes []*class // of them
}

func newWaits(w *world, s *scaler) *waits {
	q := &waits{world: w, scaler: s, usual: queue.NewUsual(), pipelines: map[*pipeline]*watched{}, repositories: map[string]*polled{}, changed: true}
	repositories := slices.ContainsFunc(w.load.Pipelines, func(p workload.Pipeline) bool { return p.Repository != "" })
	for _, g := range s.groups {
		spec := g.snapshot.Spec
		if !repositories {
			spec.Repository = ""
		}
		made := queue.Group{
			Namespace: g.Namespace, Name: g.Name, Credentials: spec.Credentials, Scope: bitbucket.Scope{Workspace: simulatedWorkspace, Repository: spec.Repository}, Labels: g.labels,
			ByQueue: spec.Rules.Strategy == policy.QueuedSteps, Repositories: spec.Repositories, LookAhead: spec.LookAhead, Ephemeral: spec.Rules.Ephemeral,
		}
		q.groups = append(q.groups, made)
		q.byQueue, q.lookAhead = q.byQueue || made.ByQueue, q.lookAhead || made.ByQueue && made.LookAhead > 0
		q.views = append(q.views, queue.View{Credentials: spec.Credentials, Scope: made.Scope})
		if made.ByQueue {
			for _, name := range append([]string{spec.Repository}, spec.Repositories...) {
				if name != "" {
					q.repository(name).own = true
				}
			}
		}
	}
	return q
}

// id stands for the UUID of a step.
func (s *step) id() string {
	return "{" + strconv.Itoa(s.pipeline.number) + "." + strconv.Itoa(s.place) + "}"
}

// pipeline implements driver: it plans when the pipeline will be known.
func (s *scaler) pipeline(p *pipeline) {
	q := s.waits
	if !q.byQueue {
		return
	}
	p2 := &watched{pipeline: p, begun: map[*step]time.Time{}, unseen: map[*step]bool{}, taken: map[*step]bool{}}
	q.pipelines[p] = p2
	r := q.repository(p.Repository)
	r.touched = q.now
	if q.Webhooks {
		q.after(max(q.Webhook, q.Parse)+q.Read, func() { q.read(p2) })
		return
	}
	r.unknown = append(r.unknown, p2)
	q.poll(r)
}

// read makes a pipeline known.
func (q *waits) read(p *watched) {
	if p.known || p.steps == nil { // it is known, or over
		return
	}
	p.known, p.knownAt = true, q.now
	q.known = append(q.known, p)
	r := q.repository(p.Repository)
	if r.live++; r.live == 1 { // lists are more frequent from now on
		r.planned = false
		q.poll(r)
	}
	q.measured.call("read pipelines", 3) // the pipeline, its file and its steps
	q.note(p)
}

// note notes that what is known of a pipeline has changed.
func (q *waits) note(p *watched) {
	q.changed, q.scaler.dirty, p.shown = true, true, nil
	waiting := slices.ContainsFunc(p.steps, p.waits)
	switch {
	case waiting && p.waitingSince.IsZero():
		p.waitingSince = q.now
	case !waiting && !p.waitingSince.IsZero():
		p.waited += q.now.Sub(p.waitingSince)
		p.waitingSince = time.Time{}
	}
}

// waits reports whether a step waits, as far as runners have reported.
func (p *watched) waits(s *step) bool {
	_, begun := p.begun[s]
	return len(s.Labels) > 0 && !s.readyAt.IsZero() && s.endedAt.IsZero() && !begun && !p.unseen[s] && !p.taken[s]
}

// ready implements driver.
func (s *scaler) ready(next *step) bool {
	q := s.waits
	p := q.pipelines[next.pipeline]
	if p == nil {
		return true
	}
	if elsewhere := func(place int) bool { return len(next.pipeline.steps[place].Labels) == 0 }; slices.ContainsFunc(next.After, elsewhere) {
		// No runner reports the end of the step before, so that the next read shows it.
		p.unseen[next] = true
		q.after(queue.PollInterval(true, true), func() {
			delete(p.unseen, next)
			q.note(p)
		})
	}
	if p.known {
		q.note(p) // its runner has reported the end of the step before
	}
	return true
}

// begun takes the report of a runner that it has begun a step.
func (q *waits) begun(s *step) {
	p := q.pipelines[s.pipeline]
	if p == nil {
		return
	}
	p.begun[s] = q.now
	if !p.known {
		q.after(max(0, p.At.Add(q.Parse).Sub(q.now))+q.Read, func() { q.read(p) }) // the report names the pipeline
		if r := q.repository(p.Repository); !r.followed && !r.own && !q.Webhooks {
			r.followed = true
			q.listAt(r, q.now.Add(q.Read))
		}
		return
	}
	q.note(p)
}

// listed takes a list that shows a step on a runner.
func (q *waits) listed(s *step) {
	if p := q.pipelines[s.pipeline]; p != nil && !p.taken[s] {
		p.taken[s] = true
		q.note(p)
	}
}

// ended takes the report of a runner that it has ended a step.
func (q *waits) ended(s *step) {
	p := q.pipelines[s.pipeline]
	if p == nil {
		return
	}
	if p.known {
		q.usual.Add(q.key(s), q.now.Sub(p.begun[s]))
	}
	q.note(p)
}

// over implements driver.
func (s *scaler) over(over *pipeline) {
	q := s.waits
	p := q.pipelines[over]
	if p == nil {
		return
	}
	delete(q.pipelines, over)
	if !p.known {
		return
	}
	q.note(p)
	q.measured.call("read pipelines", queue.RegularReads(p.waited, q.now.Sub(p.knownAt)-p.waited))
	q.repository(over.Repository).live--
	q.known = slices.DeleteFunc(q.known, func(other *watched) bool { return other == p })
}

func (q *waits) key(s *step) queue.UsualKey {
	return queue.UsualKey{Repository: s.pipeline.Repository, Selector: s.pipeline.Kind, Step: s.Name}
}

// answers is what waits for each group.
func (q *waits) answers() []queue.Answer {
	if !q.byQueue {
		return nil
	}
	if !q.changed && q.last != nil && (!q.lookAhead || q.lastAt.Equal(q.now)) {
		return q.last
	}
	if q.changed {
		q.assemble()
	}
	snapshot := queue.Snapshot{Steps: q.steps, Views: q.views}
	q.last, _ = snapshot.For(queue.Input{Groups: q.groups, Now: q.now})
	q.lastAt = q.now
	return q.last
}

// assemble makes the steps of the snapshot. Of those that the same runners serve no more than a scope
// can have runners are counted: further ones change nothing.
func (q *waits) assemble() {
	q.steps, q.changed = q.steps[:0], false
	q.snapshots++
	for _, p := range q.known {
		if p.shown == nil {
			q.collect(p)
		}
		for i := range p.shown {
			if p.shown[i].Expected.IsZero() {
				c := p.classes[i]
				if c.snapshot != q.snapshots {
					c.snapshot, c.counted = q.snapshots, 0
				}
				if c.counted++; c.counted > policy.ScopeLimit {
					continue
				}
			}
			q.steps = append(q.steps, p.shown[i])
		}
	}
}

// collect finds the steps of a pipeline that wait, and those that are expected.
func (q *waits) collect(p *watched) {
	p.shown, p.classes = []queue.Step{}, p.classes[:0]
	for _, s := range p.steps {
		if p.waits(s) {
			shown := q.shown(s)
			shown.Since = s.readyAt
			p.shown, p.classes = append(p.shown, shown), append(p.classes, s.class)
		}
	}
	if q.lookAhead {
		q.expect(p)
	}
}

func (q *waits) shown(s *step) queue.Step {
	repository := s.pipeline.Repository
	return queue.Step{
		StepID: queue.StepID{Repository: repository, Pipeline: strconv.Itoa(s.pipeline.number), Step: s.id()}, Scope: bitbucket.Scope{Workspace: simulatedWorkspace, Repository: repository},
		In: repository, Build: s.pipeline.number, Name: s.Name, Labels: s.Labels,
	}
}

// expect adds the steps of a pipeline that only wait for steps that run and usually take some time.
func (q *waits) expect(p *watched) {
	for _, s := range p.steps {
		if !s.readyAt.IsZero() {
			continue
		}
		var last time.Time
		var usual time.Duration
		var after map[string]pipelines.Labels
		known := true
		for _, place := range s.After {
			before := p.steps[place]
			begun, running := p.begun[before]
			took := q.usual.Of(q.key(before))
			switch {
			case !before.endedAt.IsZero():
				continue
			case !running || took == 0:
				known = false
			case begun.Add(took).After(last):
				last, usual = begun.Add(took), took
			}
			if !known {
				break
			}
			if after == nil {
				after = make(map[string]pipelines.Labels, len(s.After))
			}
			after[before.id()] = before.Labels
		}
		if known && len(after) > 0 {
			p.shown, p.classes = append(p.shown, q.shown(s).ExpectedAt(last, usual, after)), append(p.classes, s.class)
		}
	}
}
