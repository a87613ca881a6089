package queue

import (
	"cmp"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// Group is what the queue knows of a runner group.
type Group struct {
	Namespace, Name string
	// Credentials names its credentials set.
	Credentials string
	// Scope has the UUIDs of the scope of its runners; zero until they are known.
	Scope bitbucket.Scope
	// Labels are those of its runners.
	Labels pipelines.Labels
	// ByQueue is true if the group asks for runners by the steps that wait.
	ByQueue bool
	// Repositories are always looked at, by slug or UUID, besides those that are found.
	Repositories []string
	// LookAhead is how long before a step will wait it counts already.
	LookAhead time.Duration
	// Ephemeral is true if a runner ends with its step.
	Ephemeral bool
}

// reaches reports whether the group's runners can take steps of a repository.
func (g Group) reaches(repository bitbucket.Scope) bool {
	return g.Scope.Workspace != "" && g.Scope.Workspace == repository.Workspace &&
		(g.Scope.Repository == "" || g.Scope.Repository == repository.Repository)
}

// Reported is what one runner reports.
type Reported struct {
	// Pod is the UID of its pod.
	Pod string
	// Group is the index of its group in Demand.Groups.
	Group int
	Run   Run
}

// Demand is what the queue is asked for, and told, with each snapshot of the fleet.
type Demand struct {
	// Groups are all valid runner groups.
	Groups []Group
	// Runs are the reports of all runners that have any.
	Runs []Reported
	// Shown are the steps that lists of runners show on a runner, by UUID, each with the time
	// at which the list was begun.
	Shown map[string]time.Time
}

// Use takes the demand. It is called often, so it changes nothing if nothing is new.
func (q *Queue) Use(demand Demand) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.config.Clock.Now()
	changed := false
	if !slices.EqualFunc(q.groups, demand.Groups, Group.equal) {
		q.groups = demand.Groups
		q.want(now)
		changed = true
	}
	current := make(map[string]struct{}, len(demand.Runs))
	for _, reported := range demand.Runs {
		current[reported.Pod] = struct{}{}
		if last, known := q.runs[reported.Pod]; known && last.Run == reported.Run {
			continue
		}
		q.lose(q.runs[reported.Pod], reported.Run, now)
		group := demand.Groups[reported.Group]
		q.runs[reported.Pod] = report{Run: reported.Run, group: group, at: now}
		q.hear(reported.Run, group, now)
		changed = true
	}
	for pod := range q.runs {
		if _, ok := current[pod]; !ok {
			q.lose(q.runs[pod], Run{}, now)
			delete(q.runs, pod)
			changed = true
		}
	}
	for _, set := range q.sets {
		for _, r := range set.repositories {
			for _, b := range r.builds {
				changed = b.show(demand.Shown) || changed
			}
		}
	}
	if changed {
		q.changed()
	}
}

func (g Group) equal(o Group) bool {
	return g.Namespace == o.Namespace && g.Name == o.Name && g.Credentials == o.Credentials && g.Scope == o.Scope && g.ByQueue == o.ByQueue &&
		g.LookAhead == o.LookAhead && g.Ephemeral == o.Ephemeral && slices.Equal(g.Labels, o.Labels) && slices.Equal(g.Repositories, o.Repositories)
}

// compare is the order in which groups that can serve the same step get it: the fewest labels,
// repository before workspace, then by name.
func (g Group) compare(o Group) int {
	level := func(g Group) int {
		if g.Scope.Repository != "" {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(len(g.Labels), len(o.Labels)), cmp.Compare(level(g), level(o)), cmp.Compare(g.Name, o.Name), cmp.Compare(g.Namespace, o.Namespace))
}

// report is the last report of a runner.
type report struct {
	Run
	group Group
	at    time.Time
}

// hear takes a report. A step counts only if the group's runners can serve it: what runs in a
// pod can report anything, and must not change what other groups are asked for.
func (q *Queue) hear(run Run, group Group, now time.Time) {
	for _, id := range []StepID{run.Ended, run.Running} {
		if id == (StepID{}) {
			continue
		}
		r := q.reportedIn(id.Repository, group, now)
		if r == nil {
			continue
		}
		r.touched = now
		b := r.builds[id.Pipeline]
		if b == nil {
			_, hinted := r.hints[id.Pipeline]
			if _, ended := r.ended.Get(id.Pipeline); !ended && !hinted && q.mayAsk(group, now) {
				r.hint(id.Pipeline, false, now)
			}
			continue
		}
		if id == run.Ended {
			b.end(id.Step, run.Result, group, now)
		} else {
			b.begin(id.Step, group, now)
		}
	}
}

// lose has a step's pipeline read if its runner no longer runs the step and has not reported how
// it ended.
func (q *Queue) lose(last report, next Run, now time.Time) {
	id := last.Running
	if id == (StepID{}) || id == next.Running || id == next.Ended {
		return
	}
	set := q.sets[last.group.Credentials]
	if set == nil || set.repositories[id.Repository] == nil {
		return
	}
	if b := set.repositories[id.Repository].builds[id.Pipeline]; b != nil {
		b.lose(id.Step, last.group, now)
	}
}

// mayAsk reports whether a group's runners may have something read at once because of what they
// report. What else is read does not depend on it.
func (q *Queue) mayAsk(group Group, now time.Time) bool {
	name := group.Namespace + "/" + group.Name
	asking := q.asking[name]
	if asking == nil {
		asking = rate.NewLimiter(rate.Every(askedEvery), askedAtOnce)
		q.asking[name] = asking
	}
	return asking.AllowN(now, 1)
}

// reportedIn returns the repository that a runner reports, if the runners of its group can take
// steps of it.
func (q *Queue) reportedIn(uuid string, group Group, now time.Time) *repository {
	set := q.sets[group.Credentials]
	scope := bitbucket.Scope{Workspace: group.Scope.Workspace, Repository: uuid}
	if set == nil || !group.reaches(scope) || !set.reaches(scope) {
		return nil
	}
	if r := set.repositories[uuid]; r != nil {
		return r
	}
	if !q.mayAsk(group, now) {
		return nil
	}
	return set.add(scope, now)
}
