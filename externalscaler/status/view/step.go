package view

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// rank is the order in which steps are shown.
var rank = map[api.StepState]int{
	api.StepUnserved: 0, api.StepWaiting: 1, api.StepUnknown: 2, api.StepHeld: 3, api.StepExpected: 4, api.StepRunning: 5, api.StepEnded: 6,
}

// steps returns those that are worth a look, and all that are known.
func (t *taking) steps() (shown, all []api.Step) {
	nobodys := t.Fleet.Unserved()
	unserved := map[string]fleet.UnservedStep{}
	for _, u := range nobodys {
		unserved[u.Step.Step] = u
	}
	expected := t.expected()
	seen := map[string]struct{}{}
	add := func(s api.Step, listed bool) {
		if _, again := seen[s.UUID]; again {
			return
		}
		seen[s.UUID] = struct{}{}
		all = append(all, s)
		if listed {
			shown = append(shown, s)
		}
	}
	for _, p := range t.live {
		if len(p.Steps) == 0 {
			add(api.Step{
				UUID: p.Pipeline, Pipeline: p.Pipeline, Build: p.Build, Repository: p.In, State: api.StepUnknown, Since: at(p.Since), URL: buildURL(p),
				Why: []api.Reason{{Kind: "QueueUnknown", Message: p.Unknown}},
			}, true)
		}
		for _, s := range p.Steps {
			u, isUnserved := unserved[s.Step.Step]
			step := t.step(p, s)
			switch {
			case isUnserved:
				t.notServed(&step, u)
				if s.Ended {
					step.Why[0].Message = "it has failed: " + step.Why[0].Message
				}
			case step.State == api.StepHeld && !expected[s.Step.Step].IsZero():
				step.State, step.Expected = api.StepExpected, at(expected[s.Step.Step])
			}
			reached := step.State != api.StepHeld || s.Held.By != queue.HeldByOrder
			add(step, reached && step.State != api.StepEnded && (s.Ours || step.State == api.StepRunning && step.Runner != ""))
			delete(unserved, s.Step.Step)
		}
	}
	for _, u := range nobodys {
		if _, ended := unserved[u.Step.Step]; !ended { // of a live pipeline
			continue
		}
		step := api.Step{
			UUID: u.Step.Step, Name: u.Name, Pipeline: u.Pipeline, Build: u.Build, Repository: u.In, URL: stepURL(u.Scope.Workspace, u.Scope.Repository, u.Build, u.Step.Step),
			Labels: u.Labels, Since: at(u.Since),
		}
		t.notServed(&step, u)
		add(step, true)
	}
	for _, g := range t.order {
		for _, r := range g.runners {
			if r.Step != nil {
				add(*r.Step, true) // unless a pipeline has it
			}
		}
	}
	slices.SortStableFunc(shown, func(a, b api.Step) int {
		return cmp.Or(cmp.Compare(rank[a.State], rank[b.State]), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Build, b.Build))
	})
	return shown, all
}

// expected are the times at which steps will wait that count already, by UUID.
func (t *taking) expected() map[string]time.Time {
	expected := map[string]time.Time{}
	for _, g := range t.order {
		if g.snapshot == nil {
			continue
		}
		for _, s := range g.snapshot.Waiting {
			if !s.Expected.IsZero() {
				expected[s.Step] = s.Expected
			}
		}
	}
	return expected
}

// step shows one step of a live pipeline.
func (t *taking) step(p queue.LivePipeline, s queue.LiveStep) api.Step {
	step := api.Step{
		UUID: s.Step.Step, Name: s.Name, Pipeline: p.Pipeline, Build: p.Build, Repository: p.In, Labels: s.Labels, Since: at(s.Since),
		URL: stepURL(p.Scope.Workspace, p.Scope.Repository, p.Build, s.Step.Step),
	}
	runner, onOurs := t.running[step.UUID]
	group, served := fleet.GroupKey{}, false
	if len(s.Labels) > 0 {
		group, served = t.Fleet.Serving(p.Scope, s.Labels)
	}
	if served {
		step.Group = group.String()
	}
	switch {
	case s.Ended:
		step.State = api.StepEnded
		if s.Result != "" && s.Result != pipelines.ResultSuccessful {
			step.Why = []api.Reason{{Kind: "Ended", Message: "it has ended: " + strings.ToLower(s.Result), Remedy: "If it failed at once, no runner of its group was online: see min in docs/configure.md."}}
		}
	case s.Running || onOurs:
		step.State = api.StepRunning
		if onOurs {
			step.Group, step.Runner, step.Since = runner.Group, runner.Name, runner.Since
		}
	case !s.Ours:
		step.State = api.StepHeld
		step.Why = []api.Reason{{Kind: "AtlassianRunner", Message: "it runs on Atlassian's own runners"}}
		if s.Held.By == queue.HeldByOrder {
			step.Why = append([]api.Reason{{Kind: "HeldByOrder", Message: s.Held.Why}}, step.Why...)
		}
	case s.Held.By != queue.HeldByNothing:
		step.State = api.StepHeld
		step.Why = []api.Reason{heldReason(s.Held)}
	case s.Unknown != "":
		step.State = api.StepUnknown
		step.Why = []api.Reason{{Kind: "QueueUnknown", Message: "its labels are not known: " + s.Unknown}}
	default:
		step.State = api.StepWaiting
		if g := t.groups[group]; g != nil {
			step.Why = t.why(g)
		}
	}
	return step
}

var heldKinds = map[queue.Hold]string{
	queue.HeldByOrder: "HeldByOrder", queue.HeldByHand: "HeldByHand", queue.HeldByLock: "HeldByLock",
	queue.HeldByCondition: "HeldByCondition", queue.HeldUnknown: "HeldUnknown",
}

var heldRemedies = map[queue.Hold]string{
	queue.HeldByHand: "Start it on the pipeline's page at Bitbucket.",
	queue.HeldByLock: "It starts when the other pipeline releases it. Stop the other pipeline if it hangs.",
}

func heldReason(h queue.Held) api.Reason {
	return api.Reason{Kind: heldKinds[h.By], Message: h.Why, Remedy: heldRemedies[h.By]}
}

// notServed makes a step one that no group serves.
func (t *taking) notServed(step *api.Step, u fleet.UnservedStep) {
	step.State = api.StepUnserved
	reason := api.Reason{Kind: "LabelMissing", Message: "no runner group has the labels " + strings.Join(u.Labels, ", ")}
	if u.Nearest != (fleet.GroupKey{}) {
		step.Group = u.Nearest.String()
		reason.Message += fmt.Sprintf("; %s comes closest and lacks %s", u.Nearest, lacks(u))
	} else if sets := t.labelSets(); len(sets) > 0 {
		reason.Message += "; there are runners with " + strings.Join(sets, ", or ")
	}
	reason.Remedy = "Correct runs-on in bitbucket-pipelines.yml, or give a runner group these labels."
	step.Why = []api.Reason{reason}
	for _, g := range t.order { // it may be the one that is meant
		if g.snapshot == nil && len(step.Why) <= mostFaulty {
			step.Why = append(step.Why, api.Reason{Kind: kindFaulty, Message: fmt.Sprintf("%s may have them, but cannot be used: %v", g.key, g.decided), Remedy: faultyRemedy})
		}
	}
}

// mostFaulty is how many faulty groups an explanation names.
const mostFaulty = 3

// mostSets is how many sets of labels an explanation names.
const mostSets = 5

// labelSets are the labels of the groups, of as many as an explanation names.
func (t *taking) labelSets() (sets []string) {
	for _, g := range t.order {
		if set := strings.Join(g.shown.Labels, " "); set != "" && !slices.Contains(sets, set) && len(sets) < mostSets {
			sets = append(sets, set)
		}
	}
	return sets
}

// lacks says which labels the nearest group lacks, and which of its own may have been meant.
func lacks(u fleet.UnservedStep) string {
	words := make([]string, 0, len(u.Hint.Missing))
	for _, label := range slices.Sorted(slices.Values(u.Hint.Missing)) {
		if meant := u.Hint.Meant[label]; meant != "" {
			label = fmt.Sprintf("%s (it has %s)", label, meant)
		}
		words = append(words, label)
	}
	return strings.Join(words, ", ")
}

// site is where people look at pipelines. UUIDs stand for the slugs of workspace and repository.
const site = "https://bitbucket.org/"

func stepURL(workspace, repository string, build int, step string) string {
	if build == 0 {
		return ""
	}
	return fmt.Sprintf("%s%s/%s/pipelines/results/%d/steps/%s", site, url.PathEscape(workspace), url.PathEscape(repository), build, url.PathEscape(step))
}

func buildURL(p queue.LivePipeline) string {
	return fmt.Sprintf("%s%s/%s/pipelines/results/%d", site, url.PathEscape(p.Scope.Workspace), url.PathEscape(p.Scope.Repository), p.Build)
}
