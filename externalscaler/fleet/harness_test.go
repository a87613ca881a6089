package fleet

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// patience bounds every wait for a condition.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is Kubernetes, as far as the fleet reads it.
type cluster struct{ scaledJobs []ScaledJob }

func (c cluster) ScaledJobs() []ScaledJob { return c.scaledJobs }
func (c cluster) Jobs() []Job             { return nil }
func (c cluster) Pods() []Pod             { return nil }

type rig struct {
	*Fleet
	t       *testing.T
	client  *bitbucket.Client
	control *emulator.Control
	clock   *clocktesting.FakeClock // nil: the real one
}

// start runs a fleet against the emulator.
func start(t *testing.T, config Config) *rig {
	t.Helper()
	url, _ := emulator.NewTestServer(t, emulator.Options{RateLimit: -1})
	settings := bitbucket.Config{BaseURL: url, Credentials: bitbucket.Credentials{AccessToken: emulator.AccessToken}, Retries: -1, Budget: bitbucket.NewBudget(1<<20, 0, nil)}
	r := &rig{t: t, control: emulator.NewControl(url)}
	if fake, ok := config.Clock.(*clocktesting.FakeClock); ok {
		r.clock, settings.Clock = fake, fake
	}
	var err error
	if r.client, err = bitbucket.NewClient(settings); err != nil {
		t.Fatal(err)
	}
	config.Owner = "keda.test"
	config.Client = func(string, string) (Bitbucket, error) { return r.client, nil }
	if r.Fleet, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.client.Close()
	})
	return r
}

func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			r.t.Fatalf("waited for %s", what)
		case <-ticker.C:
		}
	}
}

// lists counts the lists that Bitbucket was asked for.
func (r *rig) lists() (n int) {
	r.t.Helper()
	state, err := r.control.State(context.WithoutCancel(r.t.Context()))
	if err != nil {
		r.t.Fatal(err)
	}
	for route, calls := range state.Counters.Calls {
		if strings.HasPrefix(route, "GET ") && strings.HasSuffix(route, "/runners") {
			n += calls
		}
	}
	return n
}

func (r *rig) call(name string, metadata map[string]string) (*Group, error) {
	spec, err := runnergroup.Parse(metadata)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	return r.Call(ctx, GroupKey{Namespace: "ns", Name: name}, spec)
}

func of(workspace, repository, labels string) map[string]string {
	m := map[string]string{"workspace": workspace, "labels": labels}
	if repository != "" {
		m["repository"] = repository
	}
	return m
}
