package definition

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// builder makes the steps of one pipeline.
type builder struct {
	labels texts // of the file's options
	made   Pipeline
	final  *step
	faults []error
}

// around is what groups pass on to the steps inside.
type around struct {
	groups  []int
	locks   []Lock
	failure Failure
	// parallel is the innermost parallel group, or -1, and stops whether a failure in it
	// stops its other steps.
	parallel int
	stops    bool
}

// build returns the steps of a list. The error has all faults.
func build(items []item, options *texts) (Pipeline, error) {
	b := &builder{}
	if options != nil {
		b.labels = *options
	}
	b.sequence(items, nil, around{parallel: -1})
	b.fault(options.check())
	if b.final != nil {
		all := make([]int, len(b.made.Steps))
		for i := range all {
			all[i] = i
		}
		b.step(b.final, all, around{parallel: -1})
		b.made.Steps[len(all)].Final = true
	}
	switch count := len(b.made.Steps); {
	case count == 0 || count > MaxSteps:
		b.fault(fmt.Errorf("%d steps, want 1 to %d", count, MaxSteps))
	case b.made.Steps[0].Manual: // whether the first stage may be is not known
		b.fault(errors.New("the first step of a pipeline can't be manually triggered"))
	}
	return b.made, errors.Join(b.faults...)
}

func (b *builder) fault(err error) {
	if err != nil {
		b.faults = append(b.faults, err)
	}
}

// sequence adds items that run one after the other, and returns the steps with which they
// begin and end.
func (b *builder) sequence(items []item, after []int, in around) (first, last []int) {
	for _, it := range items {
		from, to := b.item(it, after, in)
		if len(from) == 0 {
			continue
		}
		if first == nil {
			first = from
		}
		after, last = to, to
	}
	return first, last
}

func (b *builder) item(it item, after []int, in around) (first, last []int) {
	switch {
	case len(b.made.Steps) > MaxSteps: // it is refused anyway
	case it.Step != nil:
		i := b.step(it.Step, after, in)
		return []int{i}, []int{i}
	case it.Parallel != nil:
		return b.parallel(it.Parallel, after, in)
	case it.Stage != nil:
		return b.stage(it.Stage, after, in)
	case it.Final != nil:
		if b.final != nil {
			b.fault(errors.New("a second final step, want one"))
		}
		b.final = it.Final
	case it.Variables != nil:
		b.made.Variables = map[string]string{}
		for _, v := range it.Variables {
			b.made.Variables[v.Name] = v.Default
		}
	default:
		b.fault(errors.New("an entry without step, parallel, stage or final"))
	}
	return nil, nil
}

// open adds a group. Its steps are those that are added until close.
func (b *builder) open(g Group, in around, failure *onFail) around {
	b.made.Groups = append(b.made.Groups, g)
	in.groups = append(slices.Clone(in.groups), len(b.made.Groups)-1)
	if failure != nil {
		var err error
		in.failure, err = failure.failure()
		b.fault(err)
	}
	return in
}

func (b *builder) close(group, firstStep int, first []int) {
	g := &b.made.Groups[group]
	g.First = first
	for i := firstStep; i < len(b.made.Steps); i++ {
		g.Steps = append(g.Steps, i)
	}
}

func (b *builder) parallel(p *parallel, after []int, in around) (first, last []int) {
	begin := len(b.made.Steps)
	in = b.open(Group{Parallel: true}, in, p.OnFail)
	group := in.groups[len(in.groups)-1]
	in.parallel, in.stops = group, p.FailFast
	for _, side := range p.Steps {
		from, to := b.sequence([]item{side}, after, in)
		first, last = append(first, from...), append(last, to...)
	}
	b.close(group, begin, first)
	return first, last
}

func (b *builder) stage(s *stage, after []int, in around) (first, last []int) {
	begin := len(b.made.Steps)
	started, err := byHand(s.Trigger)
	b.fault(err)
	if s.RunsOn != nil {
		b.fault(fmt.Errorf("stage %q: runs-on belongs to its steps", s.Name))
	}
	in = b.open(Group{Name: s.Name, Manual: started, When: s.Condition.read()}, in, s.OnFail)
	group := in.groups[len(in.groups)-1]
	if s.Deployment != "" {
		in.locks = append(slices.Clone(in.locks), Lock{"deployment " + s.Deployment, group})
	}
	first, last = b.sequence(s.Steps, after, in)
	b.close(group, begin, first)
	return first, last
}

// step adds a step and returns its index.
func (b *builder) step(s *step, after []int, in around) int {
	made := Step{
		Name: strings.TrimSpace(s.Name), Labels: b.labels, After: after, Groups: in.groups, When: s.Condition.read(),
		Locks: slices.Clone(in.locks), Failure: in.failure, Stops: -1, Script: s.Script,
	}
	made.Duration, made.Sleeps = s.Script.duration()
	var err error
	if made.Manual, err = byHand(s.Trigger); err != nil {
		b.fault(err)
	}
	if s.OnFail != nil {
		made.Failure, err = s.OnFail.failure()
		b.fault(err)
	}
	b.fault(s.RunsOn.check())
	if s.RunsOn != nil {
		made.Labels = *s.RunsOn
	}
	if s.Type == "pipeline" {
		made.Labels, made.Child = nil, s.Custom
		if made.Child == "" {
			b.fault(fmt.Errorf("step %q: a step of type pipeline wants custom", s.Name))
		}
	}
	if s.Deployment != "" {
		made.Locks = append(made.Locks, Lock{"deployment " + s.Deployment, -1})
	}
	if group := cmp.Or(s.Group, s.Concurrency.Group); group != "" {
		made.Locks = append(made.Locks, Lock{"concurrency-group " + group, -1})
	}
	if in.parallel >= 0 && (in.stops && s.FailFast == nil || s.FailFast != nil && *s.FailFast) {
		made.Stops = in.parallel
	}
	b.made.Steps = append(b.made.Steps, made)
	return len(b.made.Steps) - 1
}
