package story

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/status"
)

// scene is what a display shows at one moment.
type scene struct {
	elapsed  time.Duration
	chapters []part
	groups   []groupScene
	// trouble says why the scene is old; empty if it is not.
	trouble string
}

// part is a chapter as it is shown.
type part struct {
	title, text  string
	begun, ended bool
	took         time.Duration
}

// groupScene is a runner group as it is shown.
type groupScene struct {
	name    string
	runners map[string]int // by state
	// desired is how many runners the group should have, by which rule, and why in numbers.
	desired    int
	rule, note string
	waits      []wait
}

// wait is why steps of a repository wait.
type wait struct {
	repository string
	steps      []string
	// why goes on after "waits ". since is when that began, if it is known.
	why   string
	since time.Time
	// starting is how many runners have been started for them, and since when.
	starting      int
	startingSince time.Time
	now           time.Time
}

// inShort says why steps wait, without the names of several and without times.
func inShort(waits []wait) (text string) {
	repository := ""
	for _, w := range waits {
		steps := w.steps[0]
		if len(w.steps) > 1 {
			steps = fmt.Sprint(len(w.steps))
		}
		switch {
		case text == "":
			text = fmt.Sprintf("; waits: %s %s %s", w.repository, steps, w.why)
		case w.repository != repository:
			text += fmt.Sprintf("; %s %s %s", w.repository, steps, w.why)
		default:
			text += fmt.Sprintf(", %s %s", steps, w.why)
		}
		repository = w.repository
	}
	return text
}

func (w wait) String() string {
	text := fmt.Sprintf("%s %s: %s", w.repository, strings.Join(w.steps, ", "), w.why)
	if !w.since.IsZero() {
		text += ", " + seconds(w.now.Sub(w.since))
	}
	if w.starting > 0 {
		text += fmt.Sprintf("; %d starting, %s", w.starting, seconds(w.now.Sub(w.startingSince)))
	}
	return text
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", max(0, d.Seconds())) }

func (p *player) scene() scene {
	s := scene{elapsed: time.Since(p.begun)}
	if p.looked != nil {
		s.trouble = p.looked.Error()
	}
	for _, c := range p.chapters {
		shown := part{title: c.title, text: c.text, begun: !c.begun.IsZero(), ended: !c.ended.IsZero()}
		switch {
		case shown.ended:
			shown.took = c.ended.Sub(c.begun)
		case shown.begun:
			shown.took = time.Since(c.begun)
		}
		s.chapters = append(s.chapters, shown)
	}
	for _, g := range p.groups {
		i := slices.IndexFunc(p.view.Groups, func(shown status.Group) bool { return shown.Name == g.Name })
		if i >= 0 {
			s.groups = append(s.groups, sceneOf(p.view.Groups[i], p.view))
		}
	}
	return s
}

func sceneOf(g status.Group, v View) groupScene {
	shown := groupScene{name: g.Name, runners: g.Runners, desired: g.Desired, rule: g.Reason, note: g.Note, waits: waitsOf(g, v)}
	if g.Error != "" {
		shown.rule, shown.note = "no decision", g.Error
	}
	return shown
}

// waitsOf returns why the steps of a group wait, those of one reason together.
func waitsOf(g status.Group, v View) (waits []wait) {
	for _, step := range v.Bitbucket.Steps {
		if !slices.Contains(step.Labels, g.Name) {
			continue
		}
		w := wait{repository: step.Repository, steps: []string{step.Name}, now: v.Bitbucket.Now}
		switch step.Outcome {
		case emulator.OutcomeQueued:
			w.why, w.since = forRunner(step, g), step.QueuedOn
			w.starting, w.startingSince = starting(g, v.Jobs[g.Name])
		case emulator.OutcomePaused:
			w.why = "for a person to start it"
		case emulator.OutcomeWaiting:
			w.why = after(step, v)
		case emulator.OutcomeHalted:
			w.why = "for a lock"
		default:
			continue
		}
		same := slices.IndexFunc(waits, func(other wait) bool { return other.repository == w.repository && other.why == w.why })
		if same < 0 {
			waits = append(waits, w)
		} else {
			waits[same].steps = append(waits[same].steps, step.Name)
		}
	}
	return waits
}

// forRunner says why a step waits that only lacks a runner.
func forRunner(step emulator.StepInfo, g status.Group) string {
	switch {
	case g.Queue == nil || !slices.ContainsFunc(g.Queue.Steps, func(known status.Step) bool { return known.UUID == step.UUID }):
		return "until it is heard of"
	case g.Reason == string(policy.ReasonAboveMax):
		return "for a runner beyond max"
	}
	return "for a runner"
}

// starting returns how many runners of a group are on their way, and since when.
func starting(g status.Group, jobs []Job) (count int, since time.Time) {
	count = min(g.Runners["pending"]+g.Runners["starting"], len(jobs))
	if count == 0 {
		return 0, time.Time{}
	}
	jobs = slices.SortedFunc(slices.Values(jobs), func(a, b Job) int { return b.CreatedOn.Compare(a.CreatedOn) })
	return count, jobs[count-1].CreatedOn
}

// after says for which steps of its pipeline a step waits.
func after(step emulator.StepInfo, v View) string {
	var names []string
	for _, other := range v.Bitbucket.Steps {
		if other.UUID == step.UUID {
			break
		}
		if other.PipelineUUID == step.PipelineUUID && other.Outcome != emulator.OutcomeWaiting && other.CompletedOn.IsZero() {
			names = append(names, other.Name)
		}
	}
	switch {
	case len(names) == 0:
		return "until it is parsed"
	case len(names) > 2:
		return fmt.Sprintf("after %d steps", len(names))
	}
	return "after " + strings.Join(names, " and ")
}

// marks are the states of runners, in the order in which they are shown.
var marks = []struct {
	state, mark string
}{
	{"busy", "#"}, {"idle", "o"}, {"unknown", "?"}, {"starting", "+"}, {"pending", "."},
	{"draining busy", "%"}, {"draining", "~"}, {"replaced", "r"}, {"lost", "x"}, {"gone", "-"},
}

// inWords lists runners by state.
func inWords(runners map[string]int) string {
	var parts []string
	for _, m := range marks {
		if n := runners[m.state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, m.state))
		}
	}
	for _, state := range slices.Sorted(maps.Keys(runners)) {
		if !slices.ContainsFunc(marks, func(m struct{ state, mark string }) bool { return m.state == state }) {
			parts = append(parts, fmt.Sprintf("%d %s", runners[state], state))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "no runners")
}
