package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// notebook keeps places in memory, and fails as often as it is told to.
type notebook struct {
	mu    sync.Mutex
	kept  []KeptPlace
	fails int
}

var errNotebook = errors.New("the notebook is closed")

func (n *notebook) LoadPlaces(context.Context) ([]KeptPlace, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.kept), n.fail()
}

func (n *notebook) SavePlaces(_ context.Context, places []KeptPlace) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.fail(); err != nil {
		return err
	}
	n.kept = slices.Clone(places)
	return nil
}

func (n *notebook) fail() error {
	if n.fails > 0 {
		n.fails--
		return errNotebook
	}
	return nil
}

// builds is a ScaledJob of the workspace acme.
func builds() ScaledJob {
	return ScaledJob{GroupKey: GroupKey{Namespace: "team", Name: "builds"}, UID: "builds-uid", CreatedOn: time.Unix(1, 0), Metadata: of("acme", "", "a")}
}

func TestRunnersOfAScopeThatNobodyNamesAreFoundAfterARestart(t *testing.T) {
	notes := &notebook{fails: 1}
	url, _ := emulator.NewTestServer(t, emulator.Options{RateLimit: -1})
	run := func(scaledJobs ...ScaledJob) (*Fleet, func()) {
		return startAt(t, url, Config{Places: notes, Kubernetes: cluster{scaledJobs}, PollInterval: 100 * time.Millisecond, RetryInterval: 50 * time.Millisecond, IdleScope: time.Second})
	}
	first, stop := run(builds())
	waitFor(t, "a writable scope", func() bool {
		group, err := first.Group(builds().GroupKey)
		return err == nil && group.Scope.Writable() == nil
	})
	group, err := first.Group(builds().GroupKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := group.Scope.Create(t.Context(), bitbucket.NewRunner{Name: "r", Labels: []string{"self.hosted", "linux", "a", "keda.test"}}); err != nil {
		t.Fatal(err)
	}
	stop()
	second, stop := run() // its ScaledJob was deleted meanwhile
	defer stop()
	waitFor(t, "the runner to be found", func() bool {
		for _, runners := range second.Podless() {
			return len(runners) == 1
		}
		return false
	})
	var scope *Scope
	for s := range second.Podless() {
		scope = s
	}
	waitFor(t, "the scope to be looked at beyond its time, as long as it holds one", func() bool {
		scope.mu.Lock()
		unused := time.Since(scope.lastUse)
		scope.mu.Unlock()
		return unused > 2*second.config.IdleScope && len(second.Podless()) == 1
	})
	waitFor(t, "its deletion", func() bool { return scope.Delete(t.Context(), scope.Runners()[0]) == nil })
	waitFor(t, "the place to be forgotten", func() bool {
		notes.mu.Lock()
		defer notes.mu.Unlock()
		return len(notes.kept) == 0
	})
}

func TestWhatACredentialsSetDoesNotServeIsNotPolled(t *testing.T) {
	refused := errors.New("not for that")
	var asked []string
	allow := func(key GroupKey, spec runnergroup.Group) error {
		asked = append(asked, key.String()+" "+spec.Workspace)
		return refused
	}
	notes := &notebook{}
	url, server := emulator.NewTestServer(t, emulator.Options{RateLimit: -1})
	f, stop := startAt(t, url, Config{Places: notes, Allow: allow, Kubernetes: cluster{[]ScaledJob{builds()}}})
	waitFor(t, "the refusal", func() bool { _, err := f.Group(builds().GroupKey); return errors.Is(err, refused) })
	stop()
	if len(asked) == 0 || asked[0] != "team/builds acme" || len(server.State().Counters.Calls) > 0 {
		t.Errorf("asked for %q, calls %v", asked, server.State().Counters.Calls)
	}

	// What is left where it was served before is looked after all the same.
	notes.kept = []KeptPlace{{Namespace: "team", Credentials: "default", Workspace: emulator.WorkspaceUUID}}
	_, stop = startAt(t, url, Config{Places: notes, Allow: allow, Kubernetes: cluster{}})
	defer stop()
	waitFor(t, "a list", func() bool { return len(server.State().Counters.Calls) > 0 })

	// A group that is known from a call alone is refused too.
	r := start(t, Config{Allow: allow})
	if _, err := r.call("builds", of("acme", "", "a")); !errors.Is(err, refused) || r.lists() > 0 {
		t.Errorf("got %v after %d lists", err, r.lists())
	}
}

func TestNothingIsRegisteredWhereItWouldNotBeFoundAgain(t *testing.T) {
	notes := &notebook{fails: 1 << 30}
	url, _ := emulator.NewTestServer(t, emulator.Options{RateLimit: -1})
	f, stop := startAt(t, url, Config{Places: notes, Kubernetes: cluster{[]ScaledJob{builds()}}})
	defer stop()
	waitFor(t, "the first list", func() bool { _, err := f.Group(builds().GroupKey); return err == nil })
	group, err := f.Group(builds().GroupKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := group.Scope.Create(t.Context(), bitbucket.NewRunner{Name: "r", Labels: []string{"linux"}}); !errors.Is(err, ErrNotWritable) {
		t.Errorf("got %v, want %v", err, ErrNotWritable)
	}
}

// startAt runs a fleet against Bitbucket at url; the second result ends it.
func startAt(t *testing.T, url string, config Config) (*Fleet, func()) {
	t.Helper()
	client, err := bitbucket.NewClient(bitbucket.Config{BaseURL: url, Credentials: bitbucket.Credentials{AccessToken: emulator.AccessToken}, Retries: -1, Budget: bitbucket.NewBudget(1<<20, 0, nil)})
	if err != nil {
		t.Fatal(err)
	}
	config.Owner = "keda.test"
	config.Client = func(string, string) (Bitbucket, error) { return client, nil }
	f, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		client.Close()
	})
	t.Cleanup(stop)
	return f, stop
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	(&rig{t: t}).until(what, done)
}
