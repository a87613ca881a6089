package scope

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
)

// patience bounds every wait for a condition.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const owner = "keda.test"

// acme is the emulator's workspace, as a slug.
func acme() ID { return ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: "acme"}} }

// rig is a Set that polls an emulator.
type rig struct {
	*Set
	t       *testing.T
	client  *bitbucket.Client
	control *emulator.Control
	// stop ends the Set before the test does.
	stop func()
}

// start runs a Set against an emulator of its own.
func start(t *testing.T, config Config) *rig {
	t.Helper()
	url, _ := emulator.NewTestServer(t, emulator.Options{RateLimit: -1})
	return startAt(t, url, config)
}

// startAt runs a Set against Bitbucket at url.
func startAt(t *testing.T, url string, config Config) *rig {
	t.Helper()
	settings := bitbucket.Config{BaseURL: url, Credentials: bitbucket.Credentials{AccessToken: emulator.AccessToken}, Retries: -1, Budget: bitbucket.NewBudget(1<<20, 0, nil)}
	if fake, ok := config.Clock.(*clocktesting.FakeClock); ok {
		settings.Clock = fake
	}
	r := &rig{t: t, control: emulator.NewControl(url)}
	var err error
	if r.client, err = bitbucket.NewClient(settings); err != nil {
		t.Fatal(err)
	}
	config.Owner = owner
	if config.Client == nil {
		config.Client = func(string, string) (Bitbucket, error) { return r.client, nil }
	}
	if r.Set, err = NewSet(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	ended := false
	r.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.client.Close()
	}
	t.Cleanup(r.stop)
	return r
}

// want asks for a scope and waits for its first list.
func (r *rig) want(id ID) {
	r.t.Helper()
	r.until("the first list of "+id.String(), func() bool {
		r.Use([]Wanted{{ID: id, Namespace: "ns", At: r.config.Clock.Now()}})
		view, ok := r.Views()[id]
		return ok && !view.ListBegun.IsZero()
	})
}

func (r *rig) view(id ID) *View {
	r.t.Helper()
	view, ok := r.Views()[id]
	if !ok {
		r.t.Fatalf("scope %s is not in use", id)
	}
	return view
}

// create registers a runner without limits.
func (r *rig) create(ctx context.Context, name string) (bitbucket.Runner, error) {
	registered, err := r.Register(ctx, acme(), func() (SlotRequest, error) { return request(name), nil })
	return registered.Runner, err
}

// request asks for a slot that no limit of a group forbids.
func request(name string) SlotRequest {
	return SlotRequest{
		Runner: bitbucket.NewRunner{Name: name, Labels: []string{"self.hosted", "linux", "a", owner}},
		Max:    100, Live: func(string) bool { return false }, Replaceable: func(bitbucket.Runner) error { return nil }, AtMax: func() {},
	}
}

func (r *rig) mustCreate(name string) bitbucket.Runner {
	r.t.Helper()
	runner, err := r.create(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return runner
}

func (r *rig) faults(rules ...emulator.FaultRule) {
	r.t.Helper()
	if err := r.control.SetFaults(r.t.Context(), rules); err != nil {
		r.t.Fatal(err)
	}
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

// calls counts the calls to routes with that beginning and end.
func (r *rig) calls(method, suffix string) (n int) {
	r.t.Helper()
	state, err := r.control.State(context.WithoutCancel(r.t.Context()))
	if err != nil {
		r.t.Fatal(err)
	}
	for route, calls := range state.Counters.Calls {
		if strings.HasPrefix(route, method+" ") && strings.HasSuffix(route, suffix) {
			n += calls
		}
	}
	return n
}

// lists counts the lists that Bitbucket was asked for.
func (r *rig) lists() int { r.t.Helper(); return r.calls("GET", "/runners") }
