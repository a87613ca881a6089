package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

func TestAStepCountsForTheGroupThatFitsBest(t *testing.T) {
	step := func(labels ...string) Step {
		return Step{StepID: StepID{Step: "{s}"}, Scope: bitbucket.Scope{Workspace: acme, Repository: app}, In: "app", Build: 7, Labels: append(pipelines.Labels{"self.hosted"}, labels...)}
	}
	group := func(name, repository string, labels ...string) Group {
		return Group{Name: name, Credentials: "default", Scope: bitbucket.Scope{Workspace: acme, Repository: repository}, Labels: pipelines.Runner("linux", labels...), ByQueue: true}
	}
	byRatio := group("ratio", "", "x")
	byRatio.ByQueue = false
	arm := group("arm", "", "x")
	arm.Labels = pipelines.Runner("linux.arm64", "x")
	for name, c := range map[string]struct {
		step   Step
		groups []Group
		want   string // the group's name, "-" for none, "nobody" if it is reported
	}{
		"the fewest labels":           {step("x"), []Group{group("a", "", "x", "y"), group("b", "", "x")}, "b"},
		"repository before workspace": {step("x"), []Group{group("a", "", "x"), group("b", app, "x")}, "b"},
		"by name":                     {step("x"), []Group{group("b", "", "x"), group("a", "", "x")}, "a"},
		"another repository":          {step("x"), []Group{group("a", web, "x"), group("b", "", "x", "y")}, "b"},
		"another platform":            {step("x"), []Group{arm}, "nobody"},
		"a missing label":             {step("x", "z"), []Group{group("a", "", "x")}, "nobody"},
		"a group that does not ask":   {step("x"), []Group{byRatio}, "-"},
		"one that asks is preferred":  {step("x"), []Group{byRatio, group("b", "", "x", "y")}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			answers, unserved := (&Snapshot{Steps: []Step{c.step}}).For(Input{Groups: c.groups, Now: time.Now()})
			got := "-"
			for i, a := range answers {
				if a.Queued > 0 {
					got = c.groups[i].Name
				}
			}
			if len(unserved) > 0 {
				got = "nobody"
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestAStepThatNobodyServesNamesTheNearestGroup(t *testing.T) {
	s := &Snapshot{Steps: []Step{{StepID: StepID{Step: "{s}"}, Scope: bitbucket.Scope{Workspace: acme, Repository: app}, Labels: pipelines.Labels{"self.hosted", "buids"}}}}
	groups := []Group{fleet("tests", ""), fleet("builds", app)}
	_, unserved := s.For(Input{Groups: groups})
	if len(unserved) != 1 || unserved[0].Nearest != 1 || unserved[0].Hint.Meant["buids"] != "builds" {
		t.Errorf("got %+v, want the group builds, whose label is close", unserved)
	}
	if _, unserved = s.For(Input{Groups: groups, Serves: func(bitbucket.Scope, pipelines.Labels) bool { return true }}); len(unserved) != 0 {
		t.Errorf("got %+v, want none: another runner serves it", unserved)
	}
}

func TestPredictedStepsFindTheRunnersThatAreFreedFirst(t *testing.T) {
	now := time.Now()
	expected := func(id string, in time.Duration) Step {
		return Step{
			StepID: StepID{Step: id}, Scope: bitbucket.Scope{Workspace: acme, Repository: app}, Labels: pipelines.Labels{"self.hosted", "x"},
			Expected: now.Add(in), Until: now.Add(in + time.Minute), After: map[string]pipelines.Labels{"{build}": {"self.hosted", "x"}},
		}
	}
	s := &Snapshot{Steps: []Step{expected("{a}", 10*time.Second), expected("{b}", 10*time.Second), expected("{c}", time.Hour), expected("{d}", -time.Hour)}}
	for name, c := range map[string]struct {
		lookAhead time.Duration
		ephemeral bool
		want      int
	}{
		"no look-ahead":   {0, false, 0},
		"too short":       {5 * time.Second, false, 0},
		"long enough":     {10 * time.Second, false, 1}, // two steps, and the runner of the build step
		"nobody is freed": {10 * time.Second, true, 2},
	} {
		g := fleet("x", app)
		g.LookAhead, g.Ephemeral = c.lookAhead, c.ephemeral
		answers, _ := s.For(Input{Groups: []Group{g}, Now: now})
		if answers[0].Predicted != c.want || answers[0].Queued != 0 {
			t.Errorf("%s: got %+v, want %d predicted", name, answers[0], c.want)
		}
	}
}

// The sum over all groups never exceeds the steps that wait, and what is seen on a runner never
// counts.
func TestTheGroupsNeverAskForMoreThanWaits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		labels := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "linux.arm64"}), 1, 3, rapid.ID[string])
		repository := rapid.SampledFrom([]string{app, web})
		now := time.Now()
		var s Snapshot
		taken := map[string]pipelines.Labels{}
		free := 0
		for i := range rapid.IntRange(0, 30).Draw(t, "steps") {
			step := Step{
				StepID: StepID{Step: fmt.Sprint(i)}, Scope: bitbucket.Scope{Workspace: acme, Repository: repository.Draw(t, "in")},
				Labels: append(pipelines.Labels{"self.hosted"}, labels.Draw(t, "labels")...), Since: now,
			}
			s.Steps = append(s.Steps, step)
			if rapid.IntRange(0, 3).Draw(t, "taken") == 0 {
				taken[step.Step] = nil
			} else {
				free++
			}
			if rapid.Bool().Draw(t, "shown twice") {
				s.Steps = append(s.Steps, step)
			}
		}
		var groups []Group
		for i := range rapid.IntRange(1, 6).Draw(t, "groups") {
			g := Group{Name: fmt.Sprint(i), Scope: bitbucket.Scope{Workspace: acme}, Labels: append(pipelines.Labels{"self.hosted"}, labels.Draw(t, "of the group")...), ByQueue: rapid.Bool().Draw(t, "by queue")}
			if rapid.Bool().Draw(t, "of a repository") {
				g.Scope.Repository = repository.Draw(t, "its")
			}
			groups = append(groups, g)
		}
		answers, unserved := s.For(Input{Groups: groups, Taken: taken, Now: now})
		sum, seen := len(unserved), map[string]bool{}
		for i, a := range answers {
			sum += a.Queued
			if a.Queued > 0 && !groups[i].ByQueue || a.Queued != len(a.Steps) {
				t.Fatalf("group %+v gets %+v", groups[i], a)
			}
			for _, step := range a.Steps {
				_, onRunner := taken[step.Step]
				if seen[step.Step] || onRunner || !step.Labels.ServedBy(groups[i].Labels) || !groups[i].reaches(step.Scope) {
					t.Fatalf("step %+v counts for %+v", step, groups[i])
				}
				seen[step.Step] = true
			}
		}
		if sum > free {
			t.Fatalf("%d steps count, %d wait", sum, free)
		}
	})
}

func TestTheReasonNamesThePipelinesWithTheMostSteps(t *testing.T) {
	var steps []Step
	for build, count := range map[int]int{1: 1, 2: 4, 3: 2, 4: 1} {
		steps = append(steps, slices.Repeat([]Step{{In: "app", Build: build}}, count)...)
	}
	if got, want := from(steps), "4 of app build 2, 2 of app build 3, others of 2 more"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := from(nil); strings.TrimSpace(got) != "" {
		t.Errorf("got %q for none", got)
	}
}

func TestAMisspeltRepositoryHidesNothingFromOtherGroups(t *testing.T) {
	wrong := fleet("x", "")
	wrong.Repositories = []string{"nope"}
	virtually(t, waiting(), func(r *rig) {
		r.wait(2 * time.Minute)
		answers := r.answers()
		if !strings.Contains(answers[0].Unknown, "nope") || answers[1].Unknown != "" {
			t.Errorf("got %q and %q, want the reason for the first group alone", answers[0].Unknown, answers[1].Unknown)
		}
	}, wrong, fleet("y", ""))
}
