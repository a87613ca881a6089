package queue

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// Answer is what waits for the runners of one group.
type Answer struct {
	// Queued are the steps that wait, and Predicted those that will within the group's
	// look-ahead, less the runners that are free by then.
	Queued, Predicted int
	// Begun are the steps that Bitbucket has given to a runner within the last half minute and
	// that no runner shows yet. The runner may be one of the group, which then looks idle.
	Begun int
	// From says which pipelines most of the steps are of, such as "2 of deploy-app build 812".
	From string
	// Pending is true while the queue is read for the first time. Unknown says why not all of it
	// can be seen; empty if it can.
	Pending bool
	Unknown string
	// Steps are the steps themselves.
	Steps []Step
	// freed are the running steps whose runners are free for the predicted ones.
	freed map[string]struct{}
}

// Unserved is a step that asks for a runner, now, later or before it failed, and that nobody
// serves.
type Unserved struct {
	Step
	// Nearest is the index of the group whose labels come closest; -1 if none reaches the
	// repository. Hint says what its labels lack.
	Nearest int
	Hint    pipelines.Hint
}

// Input is what a snapshot is joined with.
type Input struct {
	Groups []Group
	// Taken are the steps that are seen on a runner, by UUID. The labels are those of the
	// runner that reports the step, which is believed only if it can serve it; nil if Bitbucket
	// shows it.
	Taken map[string]pipelines.Labels
	// Serves reports whether a runner that belongs to none of the groups serves such steps of a
	// repository.
	Serves func(repository bitbucket.Scope, labels pipelines.Labels) bool
	Now    time.Time
}

// For divides the steps among the groups. Each step counts once: for the group with the fewest
// labels, repository before workspace, then by name. Groups that do not scale by the queue get
// none. The answers are in the order of the groups.
func (s *Snapshot) For(in Input) (answers []Answer, unserved []Unserved) {
	answers = make([]Answer, len(in.Groups))
	for i, g := range in.Groups {
		if g.ByQueue {
			answers[i].Pending, answers[i].Unknown = s.visible(g)
		}
	}
	order := make([]int, len(in.Groups))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return in.Groups[a].compare(in.Groups[b]) })
	d := division{in: in, order: order, chosen: map[string]choice{}}
	seen := map[string]struct{}{} // two credentials sets may show the same step
	for _, step := range s.Steps {
		if by, taken := in.Taken[step.Step]; taken && (by == nil || step.Labels.ServedBy(by)) {
			continue
		}
		if _, again := seen[step.Step]; again {
			continue
		}
		seen[step.Step] = struct{}{}
		choice := d.choose(step)
		switch {
		case choice.group >= 0:
			answers[choice.group].add(step, in.Groups[choice.group], in.Now)
		case !choice.served && step.Expected.IsZero() && !step.Begun:
			unserved = append(unserved, d.unserved(step))
		}
	}
	for _, step := range s.Asked {
		if !d.choose(step).served {
			unserved = append(unserved, d.unserved(step))
		}
	}
	for i := range answers {
		answers[i].From = from(answers[i].Steps)
		answers[i].Predicted = max(0, answers[i].Predicted-len(answers[i].freed))
	}
	return answers, unserved
}

// visible says whether all of a group's queue can be seen.
func (s *Snapshot) visible(g Group) (pending bool, unknown string) {
	if g.Scope.Workspace == "" {
		return true, ""
	}
	known := false
	for _, v := range s.Views {
		if v.Credentials != g.Credentials || v.Scope.Workspace != g.Scope.Workspace || v.Scope.Repository != "" && !g.reaches(v.Scope) {
			continue
		}
		if v.Scope.Repository == "" && g.Scope.Repository != "" || v.Named != "" && !slices.Contains(g.Repositories, v.Named) {
			continue
		}
		known = true
		if v.Unknown != "" {
			return false, v.Unknown
		}
		pending = pending || v.Pending
	}
	return pending || !known, ""
}

// division is the division of steps among groups.
type division struct {
	in    Input
	order []int
	// chosen are the choices by repository and labels, because many steps have the same.
	chosen map[string]choice
}

// choice is who serves steps of some labels in a repository.
type choice struct {
	group  int // -1 if none gets it
	served bool
}

func (d division) choose(step Step) choice {
	key := step.Scope.String() + "\x00" + strings.Join(step.Labels, "\x00")
	if known, ok := d.chosen[key]; ok {
		return known
	}
	chosen := choice{group: -1}
	for _, i := range d.order {
		g := d.in.Groups[i]
		if !g.reaches(step.Scope) || !step.Labels.ServedBy(g.Labels) {
			continue
		}
		chosen.served = true
		if g.ByQueue {
			chosen.group = i
			break
		}
	}
	if !chosen.served && d.in.Serves != nil {
		chosen.served = d.in.Serves(step.Scope, step.Labels)
	}
	d.chosen[key] = chosen
	return chosen
}

// Serving returns the index of the group that steps of some labels in a repository count for or,
// if no group that scales by the queue serves them, of the first one that does; -1 if none does.
func Serving(groups []Group, repository bitbucket.Scope, labels pipelines.Labels) int {
	best := -1
	for i, g := range groups {
		if !g.reaches(repository) || !labels.ServedBy(g.Labels) {
			continue
		}
		if best < 0 || g.ByQueue && !groups[best].ByQueue || g.ByQueue == groups[best].ByQueue && g.compare(groups[best]) < 0 {
			best = i
		}
	}
	return best
}

func (d division) unserved(step Step) Unserved {
	var labels []pipelines.Labels
	var groups []int
	for i, g := range d.in.Groups {
		if g.reaches(step.Scope) {
			labels, groups = append(labels, g.Labels), append(groups, i)
		}
	}
	u := Unserved{Step: step, Nearest: -1, Hint: pipelines.Nearest(step.Labels, labels)}
	if u.Hint.Index >= 0 {
		u.Nearest = groups[u.Hint.Index]
	}
	return u
}

// add counts a step for a group.
func (a *Answer) add(step Step, group Group, now time.Time) {
	switch {
	case step.Begun && now.Sub(step.Since) < settle:
		a.Begun++
		return
	case step.Begun:
		return
	case step.Expected.IsZero():
		a.Queued++
	case group.LookAhead > 0 && !now.Before(step.Expected.Add(-group.LookAhead)) && now.Before(step.Until):
		a.Predicted++
		for id, labels := range step.After {
			if !group.Ephemeral && labels.ServedBy(group.Labels) {
				if a.freed == nil {
					a.freed = map[string]struct{}{}
				}
				a.freed[id] = struct{}{}
			}
		}
	default:
		return
	}
	a.Steps = append(a.Steps, step)
}

// mostNamed is how many pipelines a reason names.
const mostNamed = 2

// from says which pipelines steps are of, those with the most steps first.
func from(steps []Step) string {
	counts := map[string]int{}
	for _, s := range steps {
		if s.Expected.IsZero() {
			counts[fmt.Sprintf("%s build %d", s.In, s.Build)]++
		}
	}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	var parts []string
	for _, name := range names[:min(len(names), mostNamed)] {
		parts = append(parts, fmt.Sprintf("%d of %s", counts[name], name))
	}
	if more := len(names) - mostNamed; more > 0 {
		parts = append(parts, fmt.Sprintf("others of %d more", more))
	}
	return strings.Join(parts, ", ")
}
