package queue

import (
	"fmt"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/builds"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// deploying makes a Queue that follows pipelines of one repository, each of which has built and waits to
// deploy to the same environment. edit changes the last step of each.
func deploying(tb testing.TB, pipelineCount, stepCount int, edit func(b *build, last *step)) *Queue {
	tb.Helper()
	q, err := New(Config{Client: func(string, string) (Bitbucket, error) { return nil, nil }, Pacer: func(string) Pacer { return nil }}) //nolint:nilnil // never called
	if err != nil {
		tb.Fatal(err)
	}
	now := time.Now()
	set := newSet(q, "default", "")
	r := newRepository(set, bitbucket.Scope{Workspace: acme, Repository: app}, now)
	q.sets["default"], set.repositories[app], r.name = set, r, "app"
	definition := pipelines.Pipeline{}
	for i := range stepCount {
		definition.Steps = append(definition.Steps, pipelines.Step{Name: fmt.Sprint("Step ", i), Labels: pipelines.Runner("linux", "x")})
		definition.Order = append(definition.Order, pipelines.Node{Kind: pipelines.OneStep, Step: i})
	}
	definition.Steps[stepCount-1].Deployment = "production"
	for number := range pipelineCount {
		b := newBuild(r, builds.Pipeline{UUID: fmt.Sprintf("{%d}", number), Build: number + 1, Parsed: true}, now)
		b.define(definition)
		for i := range stepCount {
			b.steps = append(b.steps, step{id: fmt.Sprintf("{%d-%d}", number, i), shown: pipelines.Done()})
		}
		last := &b.steps[stepCount-1]
		last.shown = pipelines.State{Name: pipelines.StatePending}
		edit(b, last)
		r.builds[b.UUID] = b
	}
	return q
}

func TestThePipelineThatRunsWithALockIsNamed(t *testing.T) {
	q := deploying(t, 50, 2, func(b *build, last *step) {
		switch {
		case b.Build == 20:
			last.shown = pipelines.State{Name: pipelines.StateInProgress}
		case b.Build < 10:
			last.waiting = time.Now() // it may have it, for all that is known
		case b.Build > 40:
			b.defined, b.steps = false, nil
		}
	})
	live, _ := q.Look()
	for _, p := range live {
		if p.Build < 10 || p.Build == 20 || p.Build > 40 {
			continue
		}
		if held := p.Steps[1].Held; held.By != HeldByLock || held.Why != `app build 20 has the deployment "production"` {
			t.Fatalf("build %d: %+v", p.Build, held)
		}
	}
}

// BenchmarkLook measures how long the queue cannot go on while 500 live pipelines are looked at.
func BenchmarkLook(b *testing.B) {
	q := deploying(b, 500, 20, func(*build, *step) {})
	for b.Loop() {
		q.Look()
	}
}

// BenchmarkPublish measures how long the queue takes to show a change while 500 live pipelines, which
// wait to deploy to the same environment, are followed.
func BenchmarkPublish(b *testing.B) {
	q := deploying(b, 500, 20, func(*build, *step) {})
	for b.Loop() {
		q.publish(time.Now())
	}
}
