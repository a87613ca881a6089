package fleet

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// patience bounds every wait for a condition.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const owner = "keda.test"

// cluster is Kubernetes, as far as the fleet reads it.
type cluster struct {
	scaledJobs []ScaledJob
	jobs       []Job
	pods       []Pod
}

func (c cluster) ScaledJobs() []ScaledJob { return c.scaledJobs }
func (c cluster) Jobs() []Job             { return c.jobs }
func (c cluster) Pods() []Pod             { return c.pods }

// scopes are scopes that a test fills.
type scopes struct {
	mu     sync.Mutex
	views  scope.Views
	wanted []scope.Wanted
}

func (s *scopes) Views() scope.Views {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views
}

func (s *scopes) Use(wanted []scope.Wanted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = wanted
}

func (s *scopes) DistrustSteps(scope.ID, time.Time) {}

// show gives a scope a list, as of now.
func (s *scopes) show(id scope.ID, at time.Time, runners ...bitbucket.Runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	views := scope.Views{}
	for known, view := range s.views {
		views[known] = view
	}
	views[id] = &scope.View{ID: id, Interval: time.Minute, ListBegun: at, ServerDate: at, Runners: runners}
	s.views = views
}

// id is a scope of the credentials set "default".
func id(workspace, repository string) scope.ID {
	return scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: workspace, Repository: repository}}
}

// start runs a fleet.
func start(t *testing.T, config Config) *Fleet {
	t.Helper()
	config.Owner = owner
	f, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s", what)
		case <-ticker.C:
		}
	}
}

func call(t *testing.T, f *Fleet, name string, metadata map[string]string) (*GroupSnapshot, error) {
	t.Helper()
	spec, err := runnergroup.Parse(metadata)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return f.Call(ctx, GroupKey{Namespace: "ns", Name: name}, spec)
}

func of(workspace, repository, labels string) map[string]string {
	m := map[string]string{"workspace": workspace, "labels": labels}
	if repository != "" {
		m["repository"] = repository
	}
	return m
}
